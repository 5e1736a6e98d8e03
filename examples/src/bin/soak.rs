//! Mixed load for as long as one likes, and a verdict: no message is lost, and memory and file descriptors stay flat.
//!
//!     cargo run --release --bin soak -- --runtime tokio --seconds 600
//!
//! The server is a process of its own, so that its memory can be told. The clients come and go: most have their
//! messages echoed, of all lengths, compressed and not, whole and in fragments, and some of these read slowly or leave
//! in the middle; others listen to news that are broadcast to all, some too slowly to hear all of it. Every message
//! has a number, which is checked when it comes, and every conversation a hash.
//!
//! After a tenth of the time, and at the end, all clients leave: what a process holds then is compared. It reads
//! `/proc`, so it needs Linux.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use smol::future::{or, try_zip};
use ws_examples::{Runtime, Words, fail};
use ws_proto::{
    ClientConfig, CloseCode, Config, DeflateConfig, Error, HeadLimits, Message, Prepared, ServerConfig,
    WindowBits,
    drive::{Bind, Clients, Connect, Connector, Listen, Server, Socket, WebSocket, WriteHalf, reunite},
};

const USAGE: &str = "soak [--runtime tokio|async-std] [--seconds N] [--clients N]";

/// How long anything may be waited for: no deadline is to end a connection of a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much more memory than after a tenth of the time a process may hold in the end, in KiB: what each of its threads
/// keeps to lend, if it did nothing so far, and what an allocator cannot give back.
fn growth() -> usize {
    let threads = 1 + thread::available_parallelism().map_or(1, usize::from);
    threads * 8 * 1024 + 8 * 1024
}

fn main() {
    let mut words = Words::of_process();
    let runtime = words.option("--runtime").unwrap_or_default();
    let seconds = words.option("--seconds").unwrap_or(600);
    let clients = words.option("--clients").unwrap_or(64);
    let is_server = words.positional().is_some_and(|word| word == "serve");
    words.end(USAGE);
    let done = match runtime {
        Runtime::Tokio => tokio::runtime::Runtime::new().and_then(|runtime| {
            runtime.block_on(run::<ws_tokio::Listener, ws_tokio::Tokio>(is_server, "tokio", seconds, clients))
        }),
        Runtime::AsyncStd => async_std::task::block_on(
            run::<ws_async_std::Listener, ws_async_std::AsyncStd>(is_server, "async-std", seconds, clients),
        ),
    };
    if let Err(error) = done {
        fail(&error.to_string());
    }
}

async fn run<L, C>(is_server: bool, runtime: &str, seconds: u64, clients: u64) -> io::Result<()>
where
    L: Listen + for<'a> Bind<&'a str>,
    C: Connect,
{
    if is_server {
        serve::<L>().await
    } else {
        soak::<L, C>(runtime, Duration::from_secs(seconds), clients).await
    }
}

// The server

async fn serve<L: Listen + for<'a> Bind<&'a str>>() -> io::Result<()> {
    let connection = Config {
        keepalive: Some(Duration::from_secs(1)),
        pong_timeout: Some(PATIENCE),
        write_timeout: Some(PATIENCE),
        ..Config::default()
    };
    let config = ServerConfig {
        connection,
        head: HeadLimits { timeout: Some(PATIENCE), ..HeadLimits::default() },
        deflate: Some(DeflateConfig::default()),
        ..ServerConfig::default()
    };
    let server = Server::<L>::bind("127.0.0.1:0", config).await?;
    println!("{}", server.local_addr()?);
    // It ends with the process that started it.
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let listeners = Clients::default();
    server
        .serve(move |ws, request| {
            let listeners = listeners.clone();
            async move {
                match request.uri().path() {
                    "/news" => inform(ws, &listeners).await,
                    "/press" => publish(ws, &listeners).await,
                    _ => echo(ws).await,
                }
            }
        })
        .await;
    Ok(())
}

async fn echo<K: Socket>(mut ws: WebSocket<K>) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

/// One who listens, until it says that it had enough. What was sent to it before still reaches it.
async fn inform<K: Socket + Send + 'static>(mut ws: WebSocket<K>, listeners: &Clients) -> Result<(), Error> {
    listeners.insert(&mut ws);
    ws.recv().await?;
    ws.close(CloseCode::NORMAL, "").await
}

/// Tells all who listen, and answers how many of them were sent it and how many missed it.
async fn publish<K: Socket>(mut ws: WebSocket<K>, listeners: &Clients) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        let reached = listeners.broadcast(&Prepared::new(message));
        ws.send(format!("{} {}", reached.sent, reached.skipped)).await?;
    }
    Ok(())
}

// The load

async fn soak<L: Listen, C: Connect>(runtime: &str, time: Duration, clients: u64) -> io::Result<()> {
    let (_server, pid, address) = start(runtime)?;
    let totals = Arc::new(Totals::default());
    let begun = Instant::now();
    thread::spawn({
        let totals = Arc::clone(&totals);
        move || {
            loop {
                thread::sleep(Duration::from_secs(10));
                println!("{:4} s: {totals}; server {}", begun.elapsed().as_secs(), Held::by(pid));
            }
        }
    });

    let mut held = Vec::new();
    for part in [time / 10, time - time / 10] {
        load::<L, C>(&address, Instant::now() + part, clients, &totals).await;
        // Those who left in the middle are still to be found out about.
        L::sleep(Duration::from_secs(2)).await;
        held.push([Held::by(pid), Held::by(std::process::id())]);
    }

    println!("in the end: {totals}");
    let mut faults = totals.faults.load(Relaxed);
    if totals.sent.load(Relaxed) != totals.received.load(Relaxed) {
        println!("news were lost");
        faults += 1;
    }
    for (name, before, after) in [("server", &held[0][0], &held[1][0]), ("clients", &held[0][1], &held[1][1])]
    {
        println!("{name}: {before} after a tenth of the time, {after} in the end");
        if after.memory > before.memory + growth() || after.files > before.files {
            println!("that is too much");
            faults += 1;
        }
    }
    if faults > 0 {
        fail(&format!("{faults} faults"));
    }
    println!("all messages arrived, and nothing was left behind");
    Ok(())
}

/// The server, its process and its address.
fn start(runtime: &str) -> io::Result<(Child, u32, String)> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", "--runtime", runtime])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    let output = server.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    BufReader::new(output).read_line(&mut address)?;
    let pid = server.id();
    Ok((server, pid, address.trim_end().to_owned()))
}

/// So many clients at any time, a quarter of which listen to the news, and one that makes them; until all have left.
async fn load<L: Listen, C: Connect>(address: &str, end: Instant, clients: u64, totals: &Arc<Totals>) {
    let (ended, all_ended) = smol::channel::unbounded::<()>();
    for id in 0..=clients {
        let ended = ended.clone();
        let address = address.to_owned();
        let totals = Arc::clone(totals);
        L::spawn(async move {
            let mut dice = Dice::new(totals.connections.load(Relaxed) + id);
            while Instant::now() < end {
                totals.open.fetch_add(1, Relaxed);
                totals.connections.fetch_add(1, Relaxed);
                let result = match id {
                    0 => press::<L, C>(&address, end, &totals).await,
                    _ if id <= clients / 4 => listen::<L, C>(&address, end, &totals, &mut dice).await,
                    _ => converse::<L, C>(&address, &totals, &mut dice).await,
                };
                totals.open.fetch_sub(1, Relaxed);
                if let Err(fault) = result {
                    println!("client {id}: {fault}");
                    return;
                }
            }
            let _ = ended.send(()).await;
        });
    }
    drop(ended);
    let mut missing = 1 + clients;
    while all_ended.recv().await.is_ok() {
        missing -= 1;
    }
    totals.faults.fetch_add(missing, Relaxed);
}

/// One connection whose messages come back.
async fn converse<L: Listen, C: Connect>(
    address: &str,
    totals: &Totals,
    dice: &mut Dice,
) -> Result<(), Fault> {
    let (ws, _) = connector::<C>(dice).connect(&format!("ws://{address}/")).await?;
    let count = dice.below(100);
    let is_slow = dice.below(8) == 0;
    let leaves = dice.below(16) == 0;
    let mut writer_dice = Dice::new(dice.below(u64::MAX));
    let (mut reader, mut writer) = ws.split();
    let writing = async {
        let mut hash = DefaultHasher::new();
        for number in 0..count {
            let message = message(&mut writer_dice, number);
            message.as_bytes().hash(&mut hash);
            send(&mut writer, message, &mut writer_dice).await?;
        }
        Ok(hash.finish())
    };
    let reading = async {
        let mut hash = DefaultHasher::new();
        for number in 0..if leaves { count / 2 } else { count } {
            if is_slow {
                L::sleep(Duration::from_millis(10)).await;
            }
            let received = within::<L, _>(PATIENCE, reader.recv()).await;
            let message = received.ok_or(Fault::Lost(number))??.ok_or(Fault::Lost(number))?;
            if number_of(&message) != Some(number) {
                return Err(Fault::Lost(number));
            }
            message.as_bytes().hash(&mut hash);
            totals.count(&message);
        }
        Ok(hash.finish())
    };
    if leaves {
        return or(async { reading.await.map(drop) }, async { writing.await.map(drop) }).await;
    }
    let (sent, received) = try_zip(writing, reading).await?;
    if sent != received {
        return Err(Fault::Differs);
    }
    let mut ws = reunite(reader, writer).map_err(|_| Fault::Differs)?;
    Ok(ws.close(CloseCode::NORMAL, "").await?)
}

/// Sends a message, in one of the ways in which one can be sent.
async fn send<K: Socket>(writer: &mut WriteHalf<K>, message: Message, dice: &mut Dice) -> Result<(), Fault> {
    match (dice.below(4), message.as_text()) {
        (0, Some(text)) => {
            let (start, end) = text.split_at(text.floor_char_boundary(text.len() / 2));
            writer.send_fragment(start, false).await?;
            writer.send_fragment(end, true).await?;
        }
        (0, None) => {
            for piece in message.as_bytes().chunks(1000) {
                writer.send_fragment(piece, false).await?;
            }
            writer.send_fragment(&b""[..], true).await?;
        }
        (1, _) => writer.feed(message).await?,
        (2, _) => {
            writer.ping(b"still there?").await?;
            writer.send(message).await?;
        }
        _ => writer.send(message).await?,
    }
    Ok(())
}

/// One who listens to the news for a while.
async fn listen<L: Listen, C: Connect>(
    address: &str,
    end: Instant,
    totals: &Totals,
    dice: &mut Dice,
) -> Result<(), Fault> {
    let (mut ws, _) = connector::<C>(dice).connect(&format!("ws://{address}/news")).await?;
    let is_slow = dice.below(4) == 0;
    let until = end.min(Instant::now() + Duration::from_millis(dice.below(20_000)));
    let mut last = None;
    let mut said_bye = false;
    loop {
        if !said_bye && Instant::now() >= until {
            ws.send("bye").await?;
            said_bye = true;
        }
        if is_slow && !said_bye {
            // It reads nothing before it leaves.
            L::sleep(until.saturating_duration_since(Instant::now())).await;
            continue;
        }
        let limit = if said_bye { PATIENCE } else { Duration::from_millis(100) };
        match within::<L, _>(limit, ws.recv()).await.transpose()? {
            Some(Some(news)) => {
                let number = number_of(&news);
                if number <= last || Some(&news) != number.map(news_of).as_ref() {
                    return Err(Fault::Differs);
                }
                last = number;
                totals.count(&news);
                totals.received.fetch_add(1, Relaxed);
            }
            Some(None) => return Ok(()),
            None if said_bye => return Err(Fault::Lost(0)),
            None => {}
        }
    }
}

/// Where the news come from.
async fn press<L: Listen, C: Connect>(address: &str, end: Instant, totals: &Totals) -> Result<(), Fault> {
    let connector = Connector::<C>::default().timeout(Some(PATIENCE));
    let (mut ws, _) = connector.connect(&format!("ws://{address}/press")).await?;
    while Instant::now() < end {
        let number = totals.news.fetch_add(1, Relaxed) + 1;
        ws.send(news_of(number)).await?;
        let answer = within::<L, _>(PATIENCE, ws.recv()).await.ok_or(Fault::Lost(number))??;
        let answer = answer.as_ref().and_then(Message::as_text).and_then(|text| text.split_once(' '));
        let (sent, skipped) = answer.ok_or(Fault::Lost(number))?;
        totals.sent.fetch_add(sent.parse().map_err(|_| Fault::Differs)?, Relaxed);
        totals.skipped.fetch_add(skipped.parse().map_err(|_| Fault::Differs)?, Relaxed);
        L::sleep(Duration::from_millis(5)).await;
    }
    Ok(ws.close(CloseCode::NORMAL, "").await?)
}

/// A client that compresses, or not, in one of several ways.
fn connector<C: Connect>(dice: &mut Dice) -> Connector<C> {
    let deflate = DeflateConfig::default();
    let deflate = match dice.below(4) {
        0 => None,
        1 => Some(deflate),
        2 => Some(DeflateConfig { server_max_window_bits: WindowBits::Max(9), ..deflate }),
        _ => Some(DeflateConfig {
            server_no_context_takeover: Some(true),
            client_no_context_takeover: Some(true),
            ..deflate
        }),
    };
    Connector::new(ClientConfig { deflate, ..ClientConfig::default() }).timeout(Some(PATIENCE))
}

/// A message of any kind and length, which begins with its number.
fn message(dice: &mut Dice, number: u64) -> Message {
    let max_len = match dice.below(100) {
        0 => 1024 * 1024,
        1..10 => 64 * 1024,
        10..40 => 4096,
        _ => 200,
    };
    let len = dice.below(max_len) as usize;
    match dice.below(3) {
        0 => format!("{number:016x}{}", "žluťoučký kůň 🦀 ".repeat(len / 24)).into(),
        1 => format!("{number:016x}")
            .bytes()
            .chain((0..len).map(|i| (i / 100) as u8))
            .collect::<Vec<_>>()
            .into(),
        _ => noise(dice, number, len),
    }
}

/// What does not compress, with its number.
fn noise(dice: &mut Dice, number: u64, len: usize) -> Message {
    let noise = (0..len / 8).flat_map(|_| dice.below(u64::MAX).to_le_bytes());
    format!("{number:016x}").bytes().chain(noise).collect::<Vec<_>>().into()
}

/// The news of this number. Every other is long, and does not compress, so that who does not read misses some.
fn news_of(number: u64) -> Message {
    let mut dice = Dice::new(number);
    if number.is_multiple_of(2) { message(&mut dice, number) } else { noise(&mut dice, number, 100_000) }
}

fn number_of(message: &Message) -> Option<u64> {
    let digits = message.as_bytes().get(..16)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

async fn within<L: Listen, T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    or(async { Some(future.await) }, async {
        L::sleep(limit).await;
        None
    })
    .await
}

// What is told about it

/// What went wrong with one connection.
#[derive(Debug)]
enum Fault {
    /// It ended.
    Error(Error),
    /// This message did not come when it should have.
    Lost(u64),
    /// What came is not what was sent.
    Differs,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => write!(f, "{error}"),
            Self::Lost(number) => write!(f, "message {number} was lost"),
            Self::Differs => f.write_str("what came is not what was sent"),
        }
    }
}

#[derive(Default)]
struct Totals {
    connections: AtomicU64,
    open: AtomicU64,
    /// Messages that came, and their bytes.
    messages: AtomicU64,
    bytes: AtomicU64,
    /// News that were published; then for every listener of each, as the server says, and those that came.
    news: AtomicU64,
    sent: AtomicU64,
    skipped: AtomicU64,
    received: AtomicU64,
    faults: AtomicU64,
}

impl Totals {
    fn count(&self, message: &Message) {
        self.messages.fetch_add(1, Relaxed);
        self.bytes.fetch_add(message.len() as u64, Relaxed);
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [connections, open, messages, bytes, sent, skipped, received, faults] = [
            &self.connections,
            &self.open,
            &self.messages,
            &self.bytes,
            &self.sent,
            &self.skipped,
            &self.received,
            &self.faults,
        ]
        .map(|total| total.load(Relaxed));
        write!(
            f,
            "{connections} connections, {open} open, {messages} messages, {} MB; news: {sent} sent, {received} \
             received, {skipped} skipped; {faults} faults",
            bytes / 1_000_000
        )
    }
}

/// What a process holds.
struct Held {
    /// In KiB.
    memory: usize,
    /// File descriptors.
    files: usize,
}

impl Held {
    fn by(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        match (memory.and_then(|kib| kib.parse().ok()), fs::read_dir(format!("/proc/{pid}/fd"))) {
            (Some(memory), Ok(files)) => Self { memory, files: files.count() },
            _ => fail("the server is gone, or this system tells nothing about processes"),
        }
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} KiB, {} files", self.memory, self.files)
    }
}

/// Numbers that are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.below(2);
        dice
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }
}
