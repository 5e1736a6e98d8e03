//! An echo server on `std::net` alone, a thread a connection: the core without an adapter or a runtime.
//!
//!     cargo run --release --bin std_blocking -- --listen 127.0.0.1:9001
//!
//! It shows the steps of `docs/sans-io.md` over a blocking socket. A thread waits in one call at a time, so each wait
//! ends with the machine's next deadline: no peer holds a thread by silence, and none by not reading.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use ws_examples::{SERVER_OPTIONS, Words, fail};
use ws_proto::{Connection, Error, Event, Machine, ServerConfig, handshake::ServerHandshake};

fn main() {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let config = words.server_config();
    words.end(&format!("std_blocking [--listen ADDR] {SERVER_OPTIONS}"));
    if let Err(error) = listen_on(&listen, config) {
        fail(&format!("{listen}: {error}"));
    }
}

fn listen_on(listen: &str, config: ServerConfig) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("listening on ws://{}/", listener.local_addr()?);
    let (free, places) = mpsc::channel();
    for _ in 0..config.max_connections.unwrap_or(DEFAULT_CONNECTIONS) {
        let _ = free.send(());
    }
    let config = Arc::new(config);
    // Whoever comes while no place is free waits in the system's queue.
    for () in places {
        let place = Place(free.clone());
        match listener.accept() {
            Ok((stream, peer)) => {
                let config = Arc::clone(&config);
                // Without a thread the closure is dropped, and the stream and the place with it.
                let _ = thread::Builder::new().spawn(move || {
                    let _place = place;
                    if let Err(error) = serve(&stream, config) {
                        eprintln!("{peer}: {error}");
                    }
                });
            }
            // There are no descriptors left, most likely; a connection that ends gives one back.
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
    Ok(())
}

/// The right to be served, which goes to the next when it is dropped.
struct Place(mpsc::Sender<()>);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn serve(stream: &TcpStream, config: Arc<ServerConfig>) -> Result<(), Error> {
    // What one read brought is answered in one write, so there is nothing to wait for.
    stream.set_nodelay(true)?;
    let mut handshake = ServerHandshake::new(config, Instant::now());
    drive(&mut handshake, stream, |handshake| handshake.advance() || handshake.is_ended())?;
    if handshake.request().is_some() {
        match handshake.check() {
            Ok(acceptance) => {
                let (mut connection, _request) = handshake.accept(acceptance, Instant::now());
                drive(&mut connection, stream, echo)?;
                return connection.fault().map_or(Ok(()), |fault| Err(fault.into()));
            }
            Err(error) => handshake.fail(error),
        }
    }
    drive(&mut handshake, stream, |handshake| handshake.is_ended())?;
    Err(handshake.error().expect("it ended without a connection").clone().into())
}

/// Answers all that came, as far as there is room; whether the connection has ended.
fn echo(connection: &mut Connection) -> bool {
    while !connection.sender().is_full() && connection.advance() {
        let (event, sender) = connection.split_mut();
        // It fails only once nothing can be sent any more; what still comes is read to its end.
        let _ = match event {
            Some(Event::Text(text)) => sender.send_text(text),
            Some(Event::Binary(payload)) => sender.send_binary(payload),
            _ => Ok(()),
        };
    }
    connection.is_ended()
}

/// Carries bytes and time between a machine and its socket until `look` has found what it looks for.
fn drive<M: Machine>(
    machine: &mut M,
    mut stream: &TcpStream,
    mut look: impl FnMut(&mut M) -> bool,
) -> io::Result<()> {
    let mut found = look(machine);
    while !found {
        if machine.wants_write() {
            write(machine, stream)?;
        } else {
            if machine.wants_shutdown() {
                // The socket may be gone by now, which is as good.
                let _ = stream.shutdown(Shutdown::Write);
            }
            stream.set_read_timeout(time_left(machine))?;
            let read = stream.read(machine.recv_space());
            let now = Instant::now();
            match read {
                Ok(0) => machine.handle_eof(now),
                Ok(len) => machine.handle_input(len, now),
                Err(error) if is_timeout(&error) => machine.handle_timeout(now),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => machine.handle_eof(now),
            }
        }
        found = look(machine);
    }
    if machine.is_ended() && machine.wants_write() {
        // The peer may still learn why, if it takes that at once.
        stream.set_nonblocking(true)?;
        write(machine, stream)?;
    }
    Ok(())
}

/// Writes once.
fn write(machine: &mut impl Machine, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_write_timeout(time_left(machine))?;
    let mut slices = [IoSlice::new(&[]); 16];
    let count = machine.output(&mut slices);
    let written = stream.write_vectored(&slices[..count]);
    let now = Instant::now();
    match written {
        Ok(len) => machine.consume(len),
        Err(error) if is_timeout(&error) => machine.handle_timeout(now),
        Err(error) if error.kind() == ErrorKind::Interrupted => {}
        Err(_) => machine.handle_write_error(now),
    }
    Ok(())
}

/// How long to wait at most.
fn time_left(machine: &mut impl Machine) -> Option<Duration> {
    let now = Instant::now();
    let (deadline, _) = machine.poll_timeout(now)?;
    // Not 0, which a socket takes for "for ever".
    Some(deadline.saturating_duration_since(now).max(Duration::from_millis(1)))
}

/// Systems differ in how they say that the time is over.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Each is a thread.
const DEFAULT_CONNECTIONS: usize = 1000;

/// How long to wait before a connection is accepted again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
