//! One conversation, had once undisturbed and then again for each call of a stream that it made, which waits, fails,
//! hangs or carries one byte. The drive layer alone is disturbed in more ways, in ws-proto/tests/simulation.

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex},
};

use super::*;

#[test]
fn each_call_that_waits_or_carries_one_byte_changes_nothing() {
    both_roles(async |role| {
        let undisturbed = have(role, None, CALM).await;
        assert_eq!(undisturbed.result.unwrap(), short_messages());
        for at in each_call(undisturbed.calls, &[Twist::Waits, Twist::OneByte]) {
            let result = have(role, Some(at), CALM).await.result;
            assert!(result.as_ref().is_ok_and(|told| *told == short_messages()), "{at:?}: {result:?}");
        }
    });
}

#[test]
fn each_call_that_fails_is_told_or_changes_nothing() {
    both_roles_timed(async |role| {
        let undisturbed = have(role, None, CALM).await;
        for at in each_call(undisturbed.calls, &[Twist::Fails]) {
            match have(role, Some(at), CALM).await.result {
                Ok(told) => assert_eq!(told, short_messages(), "{at:?}"),
                Err(Error::Io(error)) => assert_eq!(error.kind(), FAILURE, "{at:?}"),
                // A server may have answered though not all of the request could be written: that is waited for.
                Err(Error::Handshake(HandshakeError::Timeout)) => assert_eq!(at.count, 0, "{at:?}"),
                Err(error) => panic!("{at:?}: {error}"),
            }
        }
    });
}

#[test]
fn each_call_that_hangs_ends_by_a_deadline() {
    both_roles_timed(async |role| {
        let undisturbed = have(role, None, CALM).await;
        // All at once, so that it takes no longer than one of them where the clock does not jump.
        let hanging: Vec<_> = each_call(undisturbed.calls, &[Twist::Hangs])
            .map(|at| (at, rt::spawn(have(role, Some(at), SECOND))))
            .collect();
        for (at, outcome) in hanging {
            match within(600, outcome).await.unwrap_or_else(|| panic!("{at:?} never ends")).result {
                // The peer may have had enough before this side.
                Ok(_) | Err(Error::Timeout(_) | Error::Abnormal) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(Error::Handshake(HandshakeError::Timeout | HandshakeError::Eof)) => {}
                Err(error) => panic!("{at:?}: {error:?}"),
            }
        }
    });
}

/// What comes of a conversation: the echoes, and how often the stream was asked for what.
struct Outcome {
    result: Result<Vec<Message>, Error>,
    calls: [usize; 4],
}

/// Opens a connection over a stream with this fault, hears the echo of each message, and closes. Its deadlines are some
/// of such a unit.
async fn have(role: Role, at: Option<At>, unit: Duration) -> Outcome {
    let (mine, theirs) = rt::duplex(64 * 1024);
    let faults = Arc::new(Faults { at, calls: Mutex::default() });
    let peer = rt::spawn(async move {
        let opened = match role {
            Role::Client => connected(Role::Server, theirs, unit).await,
            Role::Server => connected(Role::Client, theirs, unit).await,
        };
        // Whatever is wrong with the other side ends this one, too.
        if let Ok(mut ws) = opened {
            let _ = echo(&mut ws).await;
        }
    });
    let result = async {
        let mut ws = connected(role, rt::faulty(mine, Arc::clone(&faults)), unit).await?;
        let mut told = Vec::new();
        for message in short_messages() {
            ws.ping(b"ping").await?;
            ws.send(message).await?;
            told.extend(ws.recv().await?);
        }
        ws.close(CloseCode::NORMAL, "").await?;
        Ok(told)
    }
    .await;
    peer.await;
    let calls = *faults.calls.lock().unwrap();
    Outcome { result, calls }
}

async fn connected(role: Role, link: Link, unit: Duration) -> Result<Ws, Error> {
    let connection = Config {
        keepalive: Some(2 * unit),
        pong_timeout: Some(2 * unit),
        write_timeout: Some(3 * unit),
        close_timeout: Some(2 * unit),
        ..Config::default()
    };
    let head = HeadLimits { timeout: Some(3 * unit), ..HeadLimits::default() };
    match role {
        Role::Client => {
            let config = ClientConfig { connection, head, ..ClientConfig::default() };
            Ok(client(link, &client_request("ws://localhost/").unwrap(), &config).await?.0)
        }
        Role::Server => {
            let config = ServerConfig {
                connection,
                head,
                #[cfg(feature = "deflate")]
                deflate: Some(Default::default()),
                ..ServerConfig::default()
            };
            Ok(accept_with(link, config).await?.0)
        }
    }
}

fn each_call(calls: [usize; 4], twists: &[Twist]) -> impl Iterator<Item = At> {
    let all = [Call::Read, Call::Write, Call::Flush, Call::Shutdown];
    all.into_iter().flat_map(move |call| {
        assert!(calls[call as usize] > 0, "{call:?} was not called");
        (0..calls[call as usize])
            .flat_map(move |count| twists.iter().map(move |&twist| At { call, count, twist }))
    })
}

/// A method of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Call {
    Read,
    Write,
    Flush,
    Shutdown,
}

/// What is different about a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Twist {
    /// It is pending, and wakes at once.
    Waits,
    /// It is pending, and so are those behind it.
    Hangs,
    /// It carries one byte at most.
    OneByte,
    Fails,
}

/// Which call is different, and how: the so-and-so-manyth of its kind.
#[derive(Clone, Copy, Debug)]
struct At {
    call: Call,
    count: usize,
    twist: Twist,
}

/// What a faulty stream asks before each call. `rt::faulty` makes one.
#[derive(Debug)]
pub(crate) struct Faults {
    at: Option<At>,
    calls: Mutex<[usize; 4]>,
}

impl Faults {
    /// How many bytes the call may carry, unless it waits or fails.
    pub(crate) fn poll(&self, call: Call, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let count = &mut self.calls.lock().unwrap()[call as usize];
        *count += 1;
        let Some(At { twist, .. }) = self.at.filter(|at| {
            let is_later = at.twist == Twist::Hangs && at.count < *count;
            at.call == call && (is_later || at.count + 1 == *count)
        }) else {
            return Poll::Ready(Ok(usize::MAX));
        };
        match twist {
            Twist::Waits => cx.waker().wake_by_ref(),
            Twist::Hangs => {}
            Twist::OneByte => return Poll::Ready(Ok(1)),
            Twist::Fails => return Poll::Ready(Err(FAILURE.into())),
        }
        Poll::Pending
    }
}

/// Unit of deadlines that are not to pass, also where the clock is a real one and the machine busy.
const CALM: Duration = SECOND.saturating_mul(40);

const FAILURE: ErrorKind = ErrorKind::ConnectionReset;
