//! What the applications were promised, and whether it was kept.

use std::{collections::BTreeMap, time::Duration};

use ws_proto::{Closed, Error, Initiator, Message, SendError, Timer, drive::Client};

use crate::network::{At, CLIENT, Link, SERVER};

/// A page for each end of each link, and what was posted through handles.
#[derive(Default)]
pub(crate) struct Books {
    pages: Vec<[Page; 2]>,
    /// By the ids of the clients.
    posts: BTreeMap<u64, Vec<Post>>,
    shouts: Vec<Shout>,
    /// Handles that somebody keeps, though their connections are gone.
    pub(crate) kept: Vec<Client>,
    /// The server may turn clients away.
    pub(crate) may_refuse: bool,
    /// The server is shut down while clients are there.
    pub(crate) is_shut_down: bool,
    /// And it drops connections that do not end.
    pub(crate) is_cut: bool,
    /// Connections of the server are closed through handles.
    pub(crate) has_handles: bool,
}

/// What the application at one end did and saw.
#[derive(Default)]
pub(crate) struct Page {
    sent: Vec<Entry>,
    /// How many of them the other end has, or has missed.
    passed: usize,
    /// The numbers of the posts that it heard, and when.
    heard: Vec<(usize, Duration)>,
    /// It closed.
    pub(crate) closes: bool,
    /// It does not want everything that comes.
    pub(crate) is_deaf: bool,
    /// Nothing is done to it or by it that keeps it from a clean end.
    pub(crate) is_calm: bool,
    /// It breaks a rule, for which this is the close code.
    pub(crate) provokes: Option<u16>,
    /// It does so as long as the other side listens.
    pub(crate) insists: bool,
    /// It is no WebSocket of the library.
    pub(crate) is_raw: bool,
    /// The longest message that it takes.
    pub(crate) takes: usize,
    pub(crate) client: Option<u64>,
    pub(crate) end: End,
}

/// What became of an end.
#[derive(Debug, Default)]
pub(crate) enum End {
    /// There was no connection.
    #[default]
    Never,
    Open,
    /// The application dropped it.
    Left,
    Over {
        failure: Option<Failure>,
        closed: Closed,
    },
}

/// An error, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Failure {
    /// With the close code.
    Protocol(u16),
    Timeout(Timer),
    Abnormal,
    Io,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::Protocol(error) => Self::Protocol(error.close_code().get()),
            Error::Timeout(timer) => Self::Timeout(*timer),
            Error::Abnormal => Self::Abnormal,
            Error::Io(_) => Self::Io,
            error => panic!("a connection that is open failed by {error:?}"),
        }
    }
}

struct Entry {
    message: Message,
    state: State,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// It may have been taken: the future was dropped, or failed behind it.
    Unknown,
    Taken,
    Refused,
}

struct Post {
    number: usize,
    state: State,
    at: Duration,
}

/// A message to everybody, how many it was sent to and how many have heard it.
struct Shout {
    number: usize,
    sent: usize,
    heard: usize,
}

impl Books {
    pub(crate) fn open(&mut self) {
        self.pages.push(Default::default());
    }

    pub(crate) fn page(&mut self, (link, side): At) -> &mut Page {
        &mut self.pages[link][side]
    }

    /// A message is about to be sent: its number.
    pub(crate) fn sends(&mut self, at: At, message: Message) -> usize {
        let page = self.page(at);
        page.sent.push(Entry { message, state: State::Unknown });
        page.sent.len() - 1
    }

    /// What came of it.
    pub(crate) fn sent(&mut self, at: At, number: usize, result: &Result<(), Error>) {
        let state = &mut self.page(at).sent[number].state;
        match result {
            Ok(()) => *state = State::Taken,
            Err(Error::Send(SendError::Closed)) => *state = State::Refused,
            Err(Error::Send(error)) => panic!("{error}"),
            Err(_) => {}
        }
    }

    /// A message has come. Without `is_whole` it is the beginning of one whose rest is not wanted.
    pub(crate) fn receives(&mut self, (link, side): At, message: &Message, is_whole: bool, now: Duration) {
        if let Some(number) = number_of_post(message.as_bytes()) {
            return self.page((link, side)).heard.push((number, now));
        }
        let page = &mut self.pages[link][1 - side];
        while let Some(entry) = page.sent.get(page.passed) {
            page.passed += 1;
            let is_text = |message: &Message| message.as_text().is_some();
            let begins = is_text(message) == is_text(&entry.message)
                && entry.message.as_bytes().starts_with(message.as_bytes());
            if begins && (!is_whole || entry.message.len() == message.len()) {
                // Of a message in fragments only the last may have been refused.
                assert!(!is_whole || entry.state != State::Refused, "refused, and yet delivered");
                return;
            }
            let number = page.passed - 1;
            assert_ne!(entry.state, State::Taken, "message {number} of {:?} did not come", (link, 1 - side));
        }
        let breaks = !is_whole && page.provokes.is_some();
        assert!(breaks, "nobody has sent {} bytes to {:?}, or they came twice", message.len(), (link, side));
    }

    /// A message was posted to a client.
    pub(crate) fn posted(
        &mut self,
        client: u64,
        number: usize,
        result: Option<Result<(), SendError>>,
        at: Duration,
    ) {
        let state = match result {
            None => State::Unknown,
            Some(Ok(())) => State::Taken,
            Some(Err(SendError::Full | SendError::Closed)) => State::Refused,
            Some(Err(error)) => panic!("{error}"),
        };
        self.posts.entry(client).or_default().push(Post { number, state, at });
    }

    pub(crate) fn shouted(&mut self, number: usize, sent: usize) {
        self.shouts.push(Shout { number, sent, heard: 0 });
    }

    pub(crate) fn check(&mut self, links: &[Link]) {
        for (index, link) in links.iter().enumerate() {
            for side in [CLIENT, SERVER] {
                self.check_end((index, side), link);
                self.check_messages((index, side));
            }
            self.check_posts(index);
        }
        for Shout { number, sent, heard } in &self.shouts {
            assert!(heard <= sent, "{heard} heard post {number}, which was sent to {sent}");
        }
    }

    /// The messages to an end.
    fn check_messages(&self, at @ (link, side): At) {
        let [page, peer] = [&self.pages[link][side], &self.pages[link][1 - side]];
        if page.hears_all() {
            for (number, entry) in peer.sent.iter().enumerate().skip(peer.passed) {
                assert_ne!(
                    entry.state,
                    State::Taken,
                    "message {number} never came to {at:?}, which ended well"
                );
            }
        }
    }

    /// What was posted to a client came in order, and once.
    fn check_posts(&mut self, link: usize) {
        let [client, server] = &self.pages[link];
        for (number, _) in &client.heard {
            for shout in self.shouts.iter_mut().filter(|shout| shout.number == *number) {
                shout.heard += 1;
            }
        }
        let Some(id) = server.client else { return };
        let mut heard = client.heard.iter().peekable();
        // Where the server began to close, its Close frame went behind all that was posted.
        let began = matches!(&server.end, End::Over { closed, .. } if closed.initiator == Initiator::Local);
        let may_lose = !client.hears_all() || !began || self.has_handles;
        for post in self.posts.get(&id).into_iter().flatten() {
            if let Some((_, at)) = heard.next_if(|(number, _)| *number == post.number) {
                // Nobody but the one who posts says that there is something to write.
                let took = *at - post.at;
                assert!(!client.is_calm || took < PROMPT, "post {} took {took:?} to {link}", post.number);
                assert_ne!(post.state, State::Refused, "post {} was refused, and yet delivered", post.number);
            } else {
                assert!(post.state != State::Taken || may_lose, "post {} never came to {link}", post.number);
            }
        }
        assert_eq!(heard.next(), None, "a post came to {link} twice, or out of turn");
    }

    /// How an end ended.
    fn check_end(&self, at @ (index, side): At, link: &Link) {
        let [page, peer] = [&self.pages[index][side], &self.pages[index][1 - side]];
        let (written, read) = (link.written(side), link.read(side));
        let is_calm = page.is_calm && peer.is_calm && !link.is_hurt && !self.is_cut;
        match &page.end {
            End::Open => panic!("{at:?} is open for ever"),
            End::Left => {}
            End::Never => assert!(!is_calm || self.may_refuse || self.is_shut_down, "{at:?} never opened"),
            End::Over { failure, closed } => {
                let code = closed.code.get();
                assert!(!is_calm || (failure.is_none() && closed.clean), "{at:?}: {failure:?}, {closed:?}");
                // Section 7.1.5: the code is that of the Close frame that came.
                let came = read.close.as_ref().map(|(code, reason)| (*code, &reason[..]));
                if code != 1006 {
                    assert_eq!(Some((code, closed.reason.as_bytes())), came, "{at:?}");
                }
                assert!(code != 1006 || failure.is_some(), "{at:?} says nothing of a loss");
                // Section 7.1.4: clean is what has both Close frames.
                assert!(!closed.clean || (came.is_some() && written.close.is_some()), "{at:?}: {closed:?}");
                assert!(!closed.clean || failure.is_none(), "{at:?}: {failure:?}, {closed:?}");
                let is_local = self.closes(at) || matches!(failure, Some(Failure::Timeout(_)));
                assert!(is_local || closed.initiator == Initiator::Peer, "{at:?}: {closed:?}");
                // Section 7.1.1: a server closes TCP first.
                let shuts = side == CLIENT || link.is_hurt || link.is_shut(side);
                assert!(!closed.clean || shuts, "{at:?} did not shut TCP down");
                // Section 5.5.1: it is answered with the code that came.
                if closed.clean && closed.initiator == Initiator::Peer {
                    assert_eq!(written.close.as_ref().map(|close| close.0), Some(code), "{at:?}");
                }
                self.check_provoked(at, link, *failure);
            }
        }
        // Section 5.5.3: a pong answers a ping, and none of them twice.
        let mut pings = read.pings.clone();
        for pong in written.pongs.iter().filter(|_| !page.is_raw) {
            let ping = pings.iter().position(|ping| ping == pong);
            pings.remove(ping.unwrap_or_else(|| panic!("{at:?} wrote a pong that answers nothing")));
        }
    }

    /// Whether this side may have begun to close.
    fn closes(&self, (link, side): At) -> bool {
        self.pages[link][side].closes || (side == SERVER && self.has_handles)
    }

    /// Section 7.1.7: whoever breaks the protocol is told how.
    fn check_provoked(&self, at @ (index, side): At, link: &Link, failure: Option<Failure>) {
        let [page, peer] = [&self.pages[index][side], &self.pages[index][1 - side]];
        let told = link.written(side).close.as_ref().map(|close| close.0);
        if let Some(Failure::Protocol(code)) = failure {
            assert_eq!(peer.provokes, Some(code), "{at:?} was provoked by nothing");
            assert!(self.closes(at) || told.is_none_or(|told| told == code), "{at:?}");
        }
        let is_bound = peer.insists && !link.is_hurt && !self.closes(at) && !page.is_deaf;
        let in_time = !matches!(failure, Some(Failure::Timeout(_)));
        if is_bound
            && in_time
            && let Some(code) = peer.provokes
        {
            assert_eq!(failure, Some(Failure::Protocol(code)), "{at:?}");
        }
    }
}

impl Page {
    /// It got everything, or was told that it did not.
    fn hears_all(&self) -> bool {
        let is_clean = matches!(&self.end, End::Over { failure: None, closed } if closed.clean);
        is_clean && !self.is_deaf
    }
}

/// How long a post may be under way where nothing goes wrong: a few pauses of who is to hear it.
const PROMPT: Duration = Duration::from_millis(2500);

/// The payload of a post, which the messages of owners do not begin like.
pub(crate) fn post(number: usize) -> String {
    format!("h{number:06} {}", "post ".repeat(number % 50))
}

fn number_of_post(payload: &[u8]) -> Option<usize> {
    std::str::from_utf8(payload.strip_prefix(b"h")?.get(..6)?).ok()?.parse().ok()
}
