//! Who is there, and what they are up to: drawn by the seed.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use ws_proto::{
    ClientConfig, CloseCode, Config, Connection, HeadLimits, Prepared, ServerConfig, SlowConsumer,
    drive::{Clients, Handle, Server, WebSocket, client},
    handshake::client_request,
};

use crate::{
    agent::{Manner, cancelled, live, within},
    books::post,
    network::{CLIENT, Listener, SERVER, Trouble, Weather, Wire, knock},
    rng::Rng,
    rogue::misbehave,
    world::{Alarm, fork, say, sleep, spawn, with},
};

/// Lets all of them in.
pub(crate) fn play() {
    let mut rng = fork();
    let plot = Arc::new(Plot::draw(&mut rng));
    with(|world| {
        world.port.bad = if plot.is_calm { 0 } else { rng.pick(&[0, 0, 10]) };
        world.books.may_refuse = plot.server.max_connections.is_some();
        world.books.has_handles = plot.server.slow_consumer == SlowConsumer::Disconnect;
    });
    let server = Server::<Listener>::new(Listener, plot.server.clone());
    let handle = server.handle();
    let many = if rng.percent(5) { 20 } else { rng.pick(&[1, 1, 2, 2, 3, 4]) };
    let guests = Rc::new(Cell::new(many));
    for _ in 0..guests.get() {
        let visit = visit(Arc::clone(&plot), rng.fork());
        let guests = Rc::clone(&guests);
        spawn("guest", async move {
            visit.await;
            guests.set(guests.get() - 1);
        });
    }
    if rng.percent(60) {
        spawn("server", serve(server, Arc::clone(&plot)));
    } else {
        spawn("server", accept(server, Arc::clone(&plot)));
    }
    if rng.percent(50) {
        spawn("crier", cry(handle.clients().clone(), rng.fork(), plot.is_calm));
    }
    spawn("host", close_the_house(handle, rng, guests));
}

/// What does not change while it is played.
struct Plot {
    /// Nothing goes wrong, so everything has to go well.
    is_calm: bool,
    server: ServerConfig,
    seed: u64,
}

impl Plot {
    fn draw(rng: &mut Rng) -> Self {
        let is_calm = rng.percent(40);
        let slow_consumer = match is_calm {
            true => SlowConsumer::Skip,
            false => rng.pick(&[SlowConsumer::Skip, SlowConsumer::Disconnect]),
        };
        let server = ServerConfig {
            connection: config(rng, is_calm),
            head: HeadLimits { timeout: Some(seconds(rng, 2, 5)), ..HeadLimits::default() },
            max_connections: if rng.percent(10) { Some(rng.between(1, 4)) } else { None },
            slow_consumer,
            #[cfg(feature = "deflate")]
            deflate: rng.percent(60).then(|| deflate::config(rng)),
            ..ServerConfig::default()
        };
        Self { is_calm, server, seed: rng.next() }
    }

    fn manner(&self, rng: &mut Rng, link: usize, side: usize, own: &Config) -> Manner {
        let (is_narrow, limit) =
            with(|world| (world.links[link].weather.is_narrow(), world.books.page((link, 1 - side)).takes));
        let (volume, longest) = if is_narrow { (2000, 300) } else { (48 * 1024, 70_000) };
        Manner {
            is_calm: self.is_calm,
            closes: side == CLIENT,
            echoes: side == SERVER && rng.percent(50),
            steps: rng.between(0, 10),
            volume: if self.is_calm { volume } else { 3 * volume },
            longest: longest.min(limit),
            limit,
            close_timeout: own.close_timeout.expect("there is one"),
        }
    }
}

fn config(rng: &mut Rng, is_calm: bool) -> Config {
    let max_message = rng.pick(&[1000, 20_000, 100_000]);
    let common = Config {
        max_message,
        max_frame: rng.pick(&[max_message, usize::MAX]),
        high_water: rng.pick(&[1, 1000, 256 * 1024]),
        max_pongs_per_read: rng.pick(&[0, 1, 64]),
        ..Config::default()
    };
    if is_calm {
        // Without keepalive whoever is not woken waits for ever, and is found.
        Config {
            keepalive: rng.percent(50).then(|| seconds(rng, 2, 5)),
            pong_timeout: Some(Duration::from_secs(10)),
            write_timeout: rng.pick(&[None, Some(Duration::from_secs(20))]),
            close_timeout: Some(Duration::from_secs(20)),
            ..common
        }
    } else {
        Config {
            keepalive: Some(seconds(rng, 1, 4)),
            pong_timeout: Some(seconds(rng, 1, 3)),
            write_timeout: Some(seconds(rng, 1, 4)),
            close_timeout: Some(seconds(rng, 1, 3)),
            ..common
        }
    }
}

fn seconds(rng: &mut Rng, low: usize, high: usize) -> Duration {
    Duration::from_millis(rng.between(low * 1000, high * 1000) as u64)
}

fn milliseconds(rng: &mut Rng, most: usize) -> Duration {
    Duration::from_millis(rng.between(0, most) as u64)
}

// The server

async fn serve(server: Server<Listener>, plot: Arc<Plot>) {
    let late = server.serve(move |ws, _request| handle(ws, Arc::clone(&plot))).await;
    with(|world| assert!(late == 0 || world.books.is_cut, "{late} handlers did not end"));
}

async fn accept(mut server: Server<Listener>, plot: Arc<Plot>) {
    while let Some((ws, _request)) = server.accept().await {
        spawn("owner", handle(ws, Arc::clone(&plot)));
    }
}

async fn handle(ws: WebSocket<Wire>, plot: Arc<Plot>) {
    let (link, side) = ws.get_ref().at();
    let mut rng = Rng::new(plot.seed ^ link as u64).fork();
    let manner = plot.manner(&mut rng, link, side, &plot.server.connection);
    live(ws, rng, manner).await;
}

/// Sends to the clients of the server, and closes some of them.
async fn cry(clients: Clients, mut rng: Rng, is_calm: bool) {
    for number in 0..rng.between(1, 8) {
        sleep(milliseconds(&mut rng, 1000)).await;
        let count = clients.len();
        if count == 0 {
            continue;
        }
        let one = clients.iter().nth(rng.below(count)).expect("there are so many");
        with(|world| world.books.kept.push(one.clone()));
        let prepared = Prepared::new(post(number));
        match rng.below(10) {
            0..=3 => {
                let ids: Vec<_> = clients.iter().map(|client| client.id()).collect();
                let reached = clients.broadcast(&prepared);
                with(|world| {
                    let now = world.elapsed();
                    ids.iter().for_each(|id| world.books.posted(*id, number, None, now));
                    world.books.shouted(number, reached.sent);
                });
            }
            way @ 4..=8 => {
                let result = if way < 6 { one.send(post(number)) } else { one.send_prepared(&prepared) };
                with(|world| world.books.posted(one.id(), number, Some(result), world.elapsed()));
            }
            _ => {
                with(|world| world.books.has_handles = true);
                if is_calm || rng.percent(70) {
                    let _ = one.close(CloseCode::POLICY_VIOLATION, "out");
                } else {
                    one.terminate();
                }
            }
        }
    }
}

/// Shuts the server down: early, or when everybody has left.
async fn close_the_house(handle: Handle, mut rng: Rng, guests: Rc<Cell<usize>>) {
    if rng.percent(30) {
        sleep(milliseconds(&mut rng, 3000)).await;
        let (grace, again) = (rng.pick(&[0, 1, 60]), rng.percent(20));
        with(|world| {
            let books = &mut world.books;
            (books.is_shut_down, books.has_handles) = (true, true);
            books.is_cut = again || grace < 60;
        });
        handle.shutdown(CloseCode::GOING_AWAY, "closing time", Duration::from_secs(grace as u64)).unwrap();
        if again {
            sleep(milliseconds(&mut rng, 1000)).await;
            handle.shutdown(CloseCode::GOING_AWAY, "", Duration::ZERO).unwrap();
        }
        return;
    }
    while guests.get() > 0 {
        sleep(Duration::from_millis(500)).await;
    }
    for _ in 0..2 {
        let emptied = within(Duration::from_secs(60), handle.clients().emptied()).await;
        assert!(emptied.is_some(), "{} connections do not end", handle.clients().len());
        // Handshakes may go on.
        sleep(Duration::from_secs(6)).await;
    }
    assert!(handle.clients().is_empty());
    handle.shutdown(CloseCode::GOING_AWAY, "", Duration::from_secs(1)).unwrap();
}

// The clients

async fn visit(plot: Arc<Plot>, mut rng: Rng) {
    sleep(milliseconds(&mut rng, 1500)).await;
    let weather = Weather::draw(&mut rng, plot.is_calm);
    let config = config(&mut rng, plot.is_calm);
    let is_rogue = !plot.is_calm && rng.percent(40);
    // What misbehaves may do so to one end alone.
    let has_handshake = !is_rogue || rng.percent(60);
    let [mine, theirs] = with(|world| {
        let wires = world.link(weather, has_handshake);
        let link = wires[CLIENT].at().0;
        world.books.page((link, CLIENT)).takes = config.max_message;
        world.books.page((link, SERVER)).takes = plot.server.connection.max_message;
        for side in [CLIENT, SERVER] {
            world.books.page((link, side)).is_calm = plot.is_calm;
        }
        if !plot.is_calm && rng.percent(40) {
            let trouble = match rng.below(3) {
                0 => Trouble::Reset,
                1 => Trouble::Vanishes { side: rng.below(2) },
                _ => Trouble::Stalls(seconds(&mut rng, 0, 8)),
            };
            let at = world.now() + milliseconds(&mut rng, 2000);
            world.alarm(at, Alarm::Troubles(link, trouble));
        }
        wires
    });
    match (is_rogue, has_handshake) {
        (false, _) => come(mine, theirs, plot, rng, config).await,
        (true, true) => {
            let limit = plot.server.connection.max_message;
            if knock(theirs).is_ok() {
                misbehave(mine, rng, true, limit).await;
            }
        }
        (true, false) => {
            let seed = rng.percent(50).then(|| rng.seed());
            let (ours, other) = if seed.is_some() { (mine, theirs) } else { (theirs, mine) };
            let now = with(|world| world.now());
            let connection = match seed {
                Some(seed) => Connection::client(&config, seed, now),
                None => Connection::server(&config, now),
            };
            let (link, side) = ours.at();
            // The other end takes whatever comes.
            with(|world| world.books.page((link, 1 - side)).takes = 100_000);
            let manner = Manner { closes: true, ..plot.manner(&mut rng, link, side, &config) };
            spawn("rogue", misbehave(other, rng.fork(), false, config.max_message));
            live(WebSocket::from_upgraded(ours, connection), rng, manner).await;
        }
    }
}

/// Connects to the server, and does with the connection what the seed says.
async fn come(mine: Wire, theirs: Wire, plot: Arc<Plot>, mut rng: Rng, connection: Config) {
    let at = mine.at();
    let config = ClientConfig {
        connection,
        head: HeadLimits { timeout: Some(seconds(&mut rng, 5, 10)), ..HeadLimits::default() },
        #[cfg(feature = "deflate")]
        deflate: rng.percent(70).then(|| deflate::config(&mut rng)),
        ..ClientConfig::default()
    };
    #[cfg(feature = "deflate")]
    if deflate::may_disagree(&config.deflate, &plot.server.deflate) {
        with(|world| world.books.page(at).is_calm = false);
    }
    if let Err(error) = knock(theirs) {
        return say(at, error);
    }
    let request = client_request("ws://localhost/").unwrap();
    let patience = if plot.is_calm || rng.percent(90) { usize::MAX } else { rng.between(1, 10) };
    let seed = rng.seed();
    match cancelled(patience, client::<Wire>(mine, &request, &config, seed)).await {
        Some(Ok((ws, _response))) => {
            let manner = plot.manner(&mut rng, at.0, CLIENT, &config.connection);
            live(ws, rng, manner).await;
        }
        Some(Err(error)) => say(at, error),
        None => say(at, "does not wait for the answer"),
    }
}

#[cfg(feature = "deflate")]
mod deflate {
    use ws_proto::{DeflateConfig, WindowBits};

    use crate::rng::Rng;

    pub(super) fn config(rng: &mut Rng) -> DeflateConfig {
        let bits = [WindowBits::Any, WindowBits::Max(9), WindowBits::Max(12), WindowBits::Never];
        DeflateConfig {
            server_no_context_takeover: rng.pick(&[None, Some(false), Some(true)]),
            client_no_context_takeover: rng.pick(&[None, Some(false), Some(true)]),
            server_max_window_bits: rng.pick(&bits),
            client_max_window_bits: rng.pick(&bits),
            threshold: rng.pick(&[0, 100, 1024]),
            level: rng.pick(&[0, 1, 5, 9]),
            ..DeflateConfig::default()
        }
    }

    /// Whether the server may answer what the client does not accept.
    pub(super) fn may_disagree(client: &Option<DeflateConfig>, server: &Option<DeflateConfig>) -> bool {
        let (Some(client), Some(server)) = (client, server) else { return false };
        let demands = server.client_no_context_takeover == Some(true);
        let limits = matches!(server.server_max_window_bits, WindowBits::Max(_));
        (demands && client.client_no_context_takeover == Some(false))
            || (limits && client.server_max_window_bits == WindowBits::Never)
    }
}
