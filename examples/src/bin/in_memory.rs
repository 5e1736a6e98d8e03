//! A client and a server joined by hand, without a socket and with a clock that is a number: the whole life of a
//! connection, printed as it passes.
//!
//!     cargo run --release --bin in_memory
//!
//! It shows that bytes and times are arguments: 20 seconds take none, and every run prints the same. Simulators, and
//! tests of applications, work like this.

use std::{
    error::Error,
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use ws_proto::{
    ClientConfig, CloseCode, Config, Connection, Event, Machine, ServerConfig,
    handshake::{ClientHandshake, ServerHandshake, client_request},
};

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut world = World { start, now: start };

    let request = client_request("ws://example.com/chat")?;
    // The server is the first to ask whether the other is there.
    let connection = Config { keepalive: Some(Duration::from_secs(60)), ..Config::default() };
    let config = ClientConfig { connection, ..ClientConfig::default() };
    // A demonstration; anything else takes 32 random bytes, once.
    let seed = [7; 32];
    let mut opening = ClientHandshake::new(&request, &config, seed, world.now)?;
    let mut judging = ServerHandshake::new(Arc::new(ServerConfig::default()), world.now);

    world.carry("client > server", &mut opening, &mut judging);
    assert!(judging.advance(), "the request is there");
    let acceptance = judging.check()?;
    let (mut server, _request) = judging.accept(acceptance, world.now);
    world.carry("client < server", &mut server, &mut opening);
    assert!(opening.advance(), "the answer is there");
    let (mut client, _response) = opening.into_connection(world.now);

    client.sender().send_text("hello")?;
    client.sender().send_binary(&[1, 2, 3])?;
    world.exchange(&mut client, &mut server);

    // Nobody speaks, so the server asks whether the client is there.
    world.wait(&mut client, &mut server);
    world.exchange(&mut client, &mut server);

    client.close(CloseCode::NORMAL, "bye")?;
    world.exchange(&mut client, &mut server);
    // RFC 6455 section 7.1.1: the server closes its half of TCP first.
    world.shut_down("client < server", &mut server, &mut client);
    world.shut_down("client > server", &mut client, &mut server);
    for connection in [&client, &server] {
        let closed = connection.closed().ok_or("it has not ended")?;
        world.print(&format!("{:?} closed: {} {:?}", connection.role(), closed.code, closed.reason));
    }
    Ok(())
}

/// The time, and what happens in it.
struct World {
    start: Instant,
    now: Instant,
}

impl World {
    /// Carries bytes to and fro until there are none.
    fn exchange(&mut self, client: &mut Connection, server: &mut Connection) {
        while client.wants_write() || server.wants_write() {
            self.carry("client > server", client, server);
            while server.advance() {
                self.print_event(server);
                let (event, sender) = server.split_mut();
                if let Some(Event::Text(text)) = event {
                    sender.send_text(text).expect("there is room");
                }
            }
            self.carry("client < server", server, client);
            while client.advance() {
                self.print_event(client);
            }
        }
    }

    /// Lets time pass, from deadline to deadline, until somebody has something to say.
    fn wait(&mut self, client: &mut Connection, server: &mut Connection) {
        while !client.wants_write() && !server.wants_write() {
            let next = [client.poll_timeout(self.now), server.poll_timeout(self.now)].into_iter().flatten();
            let (deadline, timer) =
                next.min_by_key(|next| next.0).expect("a connection always waits for something");
            self.now = deadline;
            self.print(&format!("{timer:?}: {timer}"));
            client.handle_timeout(self.now);
            server.handle_timeout(self.now);
        }
    }

    /// Carries what one side wrote to the other, which takes 10 milliseconds.
    fn carry(&mut self, way: &str, from: &mut impl Machine, to: &mut impl Machine) {
        while from.wants_write() {
            let mut slices = [IoSlice::new(&[])];
            from.output(&mut slices);
            let [bytes] = slices;
            self.now += Duration::from_millis(10);
            self.print(&format!("{way}  {}", bytes.escape_ascii()));
            to.recv_space()[..bytes.len()].copy_from_slice(&bytes);
            let len = bytes.len();
            to.handle_input(len, self.now);
            from.consume(len);
        }
    }

    fn shut_down(&self, way: &str, from: &mut Connection, to: &mut Connection) {
        assert!(from.wants_shutdown());
        self.print(&format!("{way}  [end]"));
        to.handle_eof(self.now);
        assert!(!to.advance(), "nothing came before it");
    }

    fn print_event(&self, connection: &Connection) {
        self.print(&format!(
            "{:?} is told {:?}",
            connection.role(),
            connection.event().expect("it stopped at one")
        ));
    }

    fn print(&self, what: &str) {
        println!("{:6.2} s  {what}", (self.now - self.start).as_secs_f64());
    }
}
