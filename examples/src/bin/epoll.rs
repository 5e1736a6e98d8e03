//! An echo server for thousands of connections on one thread: the core over readiness, by the crate `mio` (epoll on
//! Linux), without an adapter or a runtime.
//!
//!     cargo run --release --bin epoll -- --listen 127.0.0.1:9001
//!
//! It shows the steps of `docs/sans-io.md` for many machines: their deadlines in one ordered set, back-pressure (who
//! does not read is not read from), no client that keeps the others waiting, and a listener that survives the limit of
//! connections and that of file descriptors.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::Shutdown,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token,
    event::Event as Readiness,
    net::{TcpListener, TcpStream},
};
use slab::Slab;
use ws_examples::{SERVER_OPTIONS, Words, fail};
use ws_proto::{Connection, Event, Machine, ServerConfig, handshake::ServerHandshake};

fn main() {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let config = words.server_config();
    words.end(&format!("epoll [--listen ADDR] {SERVER_OPTIONS}"));
    if let Err(error) = Server::bind(&listen, config).and_then(Server::run) {
        fail(&format!("{listen}: {error}"));
    }
}

struct Server {
    config: Arc<ServerConfig>,
    poll: Poll,
    listener: TcpListener,
    /// Its time to accept again stands among the deadlines.
    pauses: bool,
    clients: Slab<Client>,
    /// When to look at whom again.
    deadlines: BTreeSet<(Instant, Token)>,
    /// Who was interrupted, so that the others have their turn.
    unfinished: Vec<Token>,
}

impl Server {
    fn bind(listen: &str, config: ServerConfig) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(listen)?;
        println!("listening on ws://{}/", listener.local_addr()?);
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            config: Arc::new(config),
            poll,
            listener,
            pauses: false,
            clients: Slab::new(),
            deadlines: BTreeSet::new(),
            unfinished: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        // The clock is read once a round. A little late is good enough for deadlines.
        let mut now = Instant::now();
        loop {
            let wait = match self.deadlines.first() {
                _ if !self.unfinished.is_empty() => Some(Duration::ZERO),
                first => first.map(|(deadline, _)| deadline.saturating_duration_since(now)),
            };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => now = Instant::now(),
            }
            let unfinished = std::mem::take(&mut self.unfinished);
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(now),
                    token => self.serve(token, now, |client| client.socket.note(event)),
                }
            }
            for token in unfinished {
                self.serve(token, now, |_| {});
            }
            while let Some(&(deadline, token)) = self.deadlines.first()
                && deadline <= now
            {
                if token == LISTENER {
                    self.deadlines.pop_first();
                    self.pauses = false;
                    self.accept(now);
                } else {
                    self.serve(token, now, |client| client.machine().handle_timeout(now));
                }
            }
        }
    }

    /// Accepts whoever there is room for. At the limit, this is called again when a client has left.
    fn accept(&mut self, now: Instant) {
        while !self.pauses && self.clients.len() < self.limit() {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client has left already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No descriptors are left, most likely.
                Err(_) => {
                    self.deadlines.insert((now + ACCEPT_PAUSE, LISTENER));
                    self.pauses = true;
                }
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream, now: Instant) {
        let entry = self.clients.vacant_entry();
        let token = Token(entry.key());
        let both = Interest::READABLE | Interest::WRITABLE;
        // What one read brought is answered in one write, so there is nothing to wait for.
        if stream.set_nodelay(true).is_ok() && self.poll.registry().register(&mut stream, token, both).is_ok()
        {
            let machine = State::Opening(Some(ServerHandshake::new(Arc::clone(&self.config), now)));
            entry.insert(Client { socket: Socket::new(stream), state: machine, deadline: None });
            self.serve(token, now, |_| {});
        }
    }

    /// Tells a client's machine what happened, does what can be done without waiting, and notes what to wait for.
    fn serve(&mut self, token: Token, now: Instant, tell: impl FnOnce(&mut Client)) {
        let Some(client) = self.clients.get_mut(token.0) else { return };
        tell(client);
        if !client.run(now) {
            self.unfinished.push(token);
        }
        let ended = client.machine().is_ended();
        let deadline =
            if ended { None } else { client.machine().poll_timeout(now).map(|(deadline, _)| deadline) };
        if client.deadline != deadline {
            client.deadline.map(|deadline| self.deadlines.remove(&(deadline, token)));
            deadline.map(|deadline| self.deadlines.insert((deadline, token)));
            client.deadline = deadline;
        }
        if ended {
            let was_full = self.clients.len() == self.limit();
            self.clients.remove(token.0);
            if was_full {
                self.accept(now);
            }
        }
    }

    fn limit(&self) -> usize {
        self.config.max_connections.unwrap_or(usize::MAX)
    }
}

struct Client {
    socket: Socket,
    state: State,
    /// What stands for it in the set of deadlines.
    deadline: Option<Instant>,
}

enum State {
    /// Taken only for as long as it becomes a connection.
    Opening(Option<ServerHandshake>),
    Open(Connection),
}

impl Client {
    /// Does what can be done without waiting; `false` if that is not all, but enough at a time.
    fn run(&mut self, now: Instant) -> bool {
        for _ in 0..MAX_ROUNDS {
            let go_on = match &mut self.state {
                State::Opening(opening) => {
                    let handshake = opening.as_mut().expect(UNTAKEN);
                    self.socket.read(handshake, now);
                    if handshake.advance() {
                        self.judge(now);
                        true
                    } else {
                        self.socket.write(handshake, now);
                        self.socket.can_read(handshake)
                    }
                }
                State::Open(connection) => {
                    self.socket.read(connection, now);
                    while !connection.sender().is_full() && connection.advance() {
                        echo(connection);
                    }
                    let was_full = connection.sender().is_full();
                    self.socket.write(connection, now);
                    was_full && !connection.sender().is_full() || self.socket.can_read(connection)
                }
            };
            if !go_on {
                return true;
            }
        }
        false
    }

    /// Answers the request.
    fn judge(&mut self, now: Instant) {
        if let State::Opening(opening) = &mut self.state
            && let Some(mut handshake) = opening.take()
        {
            match handshake.check() {
                Ok(acceptance) => self.state = State::Open(handshake.accept(acceptance, now).0),
                Err(error) => {
                    handshake.fail(error);
                    *opening = Some(handshake);
                }
            }
        }
    }

    fn machine(&mut self) -> &mut dyn Machine {
        match &mut self.state {
            State::Opening(handshake) => handshake.as_mut().expect(UNTAKEN),
            State::Open(connection) => connection,
        }
    }
}

/// Sends the message back that the connection stopped at.
fn echo(connection: &mut Connection) {
    let (event, sender) = connection.split_mut();
    // It fails only once nothing can be sent any more; what still comes is read to its end.
    let _ = match event {
        Some(Event::Text(text)) if text.len() < LONG => sender.send_text(text),
        Some(Event::Binary(payload)) if payload.len() < LONG => sender.send_binary(payload),
        _ => match connection.take_message() {
            Some(message) => connection.sender().send(&message),
            None => Ok(()),
        },
    };
}

/// A socket, and what is known of it: readiness is told once, and lasts until a call would block.
struct Socket {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    /// The peer sends no more.
    read_closed: bool,
}

impl Socket {
    fn new(stream: TcpStream) -> Self {
        Self { stream, readable: false, writable: true, read_closed: false }
    }

    fn note(&mut self, event: &Readiness) {
        self.readable |= event.is_readable();
        self.writable |= event.is_writable();
        self.read_closed |= event.is_read_closed();
    }

    fn can_read(&self, machine: &impl Machine) -> bool {
        self.readable && machine.wants_read()
    }

    /// Reads once.
    fn read(&mut self, machine: &mut impl Machine, now: Instant) {
        if !self.can_read(machine) {
            return;
        }
        let space = machine.recv_space();
        let room = space.len();
        match self.stream.read(space) {
            Ok(0) => machine.handle_eof(now),
            Ok(len) => {
                // A read that was not filled has emptied the socket, which the end of the stream may follow.
                self.readable = len == room || self.read_closed;
                machine.handle_input(len, now);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => machine.handle_eof(now),
        }
    }

    /// Writes what the socket takes.
    fn write(&mut self, machine: &mut impl Machine, now: Instant) {
        while self.writable && machine.wants_write() {
            let mut slices = [IoSlice::new(&[]); 16];
            let count = machine.output(&mut slices);
            let written = match &slices[..count] {
                [slice] => self.stream.write(slice),
                slices => self.stream.write_vectored(slices),
            };
            match written {
                Ok(len) => machine.consume(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => machine.handle_write_error(now),
            }
        }
        if machine.wants_shutdown() {
            // The socket may be gone by now, which is as good.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

const LISTENER: Token = Token(usize::MAX);

/// Most reads of one client in a row.
const MAX_ROUNDS: usize = 16;

/// How long to wait before a connection is accepted again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From this length on a message is sent back with its own memory, uncopied.
const LONG: usize = 64 * 1024;

const UNTAKEN: &str = "it is put back, or a connection takes its place";
