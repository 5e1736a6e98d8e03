//! Instructions of the hot paths, counted by callgrind and held against `baseline.txt`.
//!
//!     cargo bench -p ws-proto                      # fails if a path takes 3 % more, or less, than it did
//!     cargo bench -p ws-proto -- --renew           # writes the baseline
//!     cargo bench -p ws-proto -- receive deflate   # the paths with these words in their names
//!
//! Unlike times, these counts are the same on a busy machine. Each path runs twice in a process of its own, with a
//! different number of messages; the difference has no set-up in it.

#![allow(
    clippy::disallowed_methods,
    reason = "an instant to start from, the arguments, and where this program is"
)]

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    hint::black_box,
    io::IoSlice,
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
    time::Instant,
};

use ws_proto::{
    ClientConfig, Config, Connection, DeflateConfig, Event, Machine, ServerConfig,
    handshake::{ClientHandshake, ServerHandshake, client_request},
    http::Request,
};

/// What a path is called, how many messages its shorter run has, and the run.
type Case = (&'static str, u64, fn(u64));

const CASES: [Case; 14] = [
    ("receive binary 16 B", 4000, |count| receive(count, &frame(0x82, &bytes(16)))),
    ("receive binary 128 B", 4000, |count| receive(count, &frame(0x82, &bytes(128)))),
    ("receive binary 4 KiB", 1000, |count| receive(count, &frame(0x82, &bytes(4096)))),
    ("receive binary 64 KiB", 200, |count| receive(count, &frame(0x82, &bytes(65536)))),
    ("receive text 4 KiB", 1000, |count| receive(count, &frame(0x81, "é中😀ж".repeat(372).as_bytes()))),
    ("receive 4 fragments of 1 KiB", 1000, |count| receive(count, &fragments())),
    ("send 16 B, server", 4000, |count| send(count, server(), 16)),
    ("send 4 KiB, server", 1000, |count| send(count, server(), 4096)),
    ("send 16 B, client", 4000, |count| send(count, client(), 16)),
    ("send 4 KiB, client", 1000, |count| send(count, client(), 4096)),
    ("echo 16 B, 64 a read", 100 * BATCH, echo),
    ("handshake, server", 500, accept),
    ("handshake, client", 500, connect),
    ("deflate 1 KiB, there and back", 2 * RECORDS, deflate),
];

// The paths

fn receive(count: u64, message: &[u8]) {
    let mut connection = server();
    let now = Instant::now();
    for _ in 0..count {
        let mut messages = 0;
        feed(&mut connection, message, now, |connection| {
            while connection.advance() {
                black_box(connection.event());
                messages += 1;
            }
        });
        assert_eq!(messages, 1);
        black_box(connection.poll_timeout(now));
    }
}

fn send(count: u64, mut connection: Connection, len: usize) {
    let payload = bytes(len);
    let now = Instant::now();
    for _ in 0..count {
        connection.sender().send_binary(&payload).expect("an open connection");
        assert!(write(&mut connection, |bytes| _ = black_box(bytes)) > len);
        black_box(connection.poll_timeout(now));
    }
}

fn echo(count: u64) {
    let messages: Vec<_> = (0..BATCH).flat_map(|_| frame(0x82, &bytes(16))).collect();
    let mut connection = server();
    let now = Instant::now();
    for _ in 0..count / BATCH {
        feed(&mut connection, &messages, now, answer);
        assert_eq!(write(&mut connection, |bytes| _ = black_box(bytes)), 18 * BATCH as usize);
        black_box(connection.poll_timeout(now));
    }
}

fn accept(count: u64) {
    let config = Arc::new(ServerConfig::default());
    let now = Instant::now();
    let mut request = Vec::new();
    write(&mut dial(now), |bytes| request.extend_from_slice(bytes));
    for _ in 0..count {
        let (mut connection, _) = accept_one(&config, &request, now);
        assert!(write(&mut connection, |bytes| _ = black_box(bytes)) > 0);
    }
}

fn connect(count: u64) {
    let now = Instant::now();
    let (mut request, mut response) = (Vec::new(), Vec::new());
    write(&mut dial(now), |bytes| request.extend_from_slice(bytes));
    write(&mut accept_one(&Arc::default(), &request, now).0, |bytes| response.extend_from_slice(bytes));
    for _ in 0..count {
        let mut handshake = dial(now);
        assert!(write(&mut handshake, |bytes| _ = black_box(bytes)) > 0);
        feed(&mut handshake, &response, now, |handshake| assert!(handshake.advance()));
        black_box(handshake.into_connection(now));
    }
}

/// A client sends, a server answers with the same, both compressed with context takeover.
fn deflate(count: u64) {
    let now = Instant::now();
    let config = ServerConfig { deflate: Some(DeflateConfig::default()), ..ServerConfig::default() };
    let (mut request, mut bytes) = (Vec::new(), Vec::new());
    let mut handshake = dial(now);
    write(&mut handshake, |bytes| request.extend_from_slice(bytes));
    let (mut server, _) = accept_one(&Arc::new(config), &request, now);
    write(&mut server, |part| bytes.extend_from_slice(part));
    feed(&mut handshake, &bytes, now, |handshake| assert!(handshake.advance()));
    let (mut client, _) = handshake.into_connection(now);

    // As many as the window of 32 KiB does not hold, so that none is a repetition.
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    for i in 0..count {
        let record = records[(i % RECORDS) as usize].as_bytes();
        client.sender().send_binary(record).expect("an open connection");
        bytes.clear();
        write(&mut client, |part| bytes.extend_from_slice(part));
        assert!(bytes.len() < record.len());
        feed(&mut server, &bytes, now, answer);
        bytes.clear();
        write(&mut server, |part| bytes.extend_from_slice(part));
        let mut messages = 0;
        feed(&mut client, &bytes, now, |client| {
            while client.advance() {
                assert!(matches!(client.event(), Some(Event::Binary(payload)) if payload == record));
                messages += 1;
            }
        });
        assert_eq!(messages, 1);
        black_box((client.poll_timeout(now), server.poll_timeout(now)));
    }
}

// What the paths are made of

/// Does what a driver does with input, as many reads as it takes.
fn feed<M: Machine>(machine: &mut M, mut bytes: &[u8], now: Instant, mut look: impl FnMut(&mut M)) {
    while !bytes.is_empty() {
        let space = machine.recv_space();
        let (read, rest) = bytes.split_at(bytes.len().min(space.len()));
        space[..read.len()].copy_from_slice(read);
        machine.handle_input(read.len(), now);
        look(machine);
        bytes = rest;
    }
}

/// Does what a driver does with output; gives its length.
fn write(machine: &mut impl Machine, mut take: impl FnMut(&[u8])) -> usize {
    let mut total = 0;
    loop {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = machine.output(&mut slices);
        let len = slices[..count].iter().map(|slice| slice.len()).sum();
        if len == 0 {
            return total;
        }
        slices[..count].iter().for_each(|slice| take(slice));
        machine.consume(len);
        total += len;
    }
}

fn answer(connection: &mut Connection) {
    while connection.advance() {
        if let (Some(Event::Binary(payload)), sender) = connection.split_mut() {
            sender.send_binary(payload).expect("room for a batch");
        }
    }
}

fn server() -> Connection {
    Connection::server(&Config::default(), Instant::now())
}

fn client() -> Connection {
    Connection::client(&Config::default(), SEED, Instant::now())
}

fn dial(now: Instant) -> ClientHandshake {
    let request = client_request("ws://example.com/chat").expect("a URL");
    ClientHandshake::new(&request, &ClientConfig::default(), SEED, now).expect("a request")
}

fn accept_one(config: &Arc<ServerConfig>, request: &[u8], now: Instant) -> (Connection, Request<()>) {
    let mut handshake = ServerHandshake::new(Arc::clone(config), now);
    feed(&mut handshake, request, now, |handshake| assert!(handshake.advance()));
    let acceptance = handshake.check().expect("a request of ours is fine");
    handshake.accept(acceptance, now)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}

/// A frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn fragments() -> Vec<u8> {
    [0x02, 0x00, 0x00, 0x80].into_iter().flat_map(|first| frame(first, &bytes(1024))).collect()
}

/// 1 KiB of what applications send.
fn record(seed: u64) -> String {
    let mut state = seed + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 40
    };
    let mut record = String::new();
    while record.len() < 1024 {
        let (id, price, side) = (next(), next(), if next() % 2 == 0 { "buy" } else { "sell" });
        write!(record, r#"{{"type":"trade","id":{id},"price":{price},"side":"{side}"}},"#).expect("a string");
    }
    record.truncate(1024);
    record
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SEED: [u8; 32] = [7; 32];
const BATCH: u64 = 64;
const RECORDS: u64 = 64;

// Counting and judging

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<_> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [run, name, count] = &words[..]
        && run == "--run"
    {
        let (.., path) = CASES.iter().find(|case| case.0 == name).expect("a path of this name");
        path(count.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let (options, words): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with("--"));
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/baseline.txt");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let mut counts: BTreeMap<_, _> = before.lines().filter_map(entry).collect();
    let mut moved = 0;
    println!("{:32}{:>12}{:>12}{:>10}", "instructions a message", "baseline", "counted", "change");
    for &(name, count, _) in CASES.iter().filter(|case| chosen(case.0)) {
        let counted = (instructions(name, 3 * count) - instructions(name, count)) / (2 * count);
        let known = counts.insert(name, counted).unwrap_or(0);
        let change = (counted as f64 / known as f64 - 1.0) * 100.0;
        let verdict = match change {
            _ if change > TOLERANCE => "  worse",
            _ if change < -TOLERANCE => "  better",
            _ => "",
        };
        moved += usize::from(!verdict.is_empty());
        println!("{name:32}{known:>12}{counted:>12}{change:>+9.1}%{verdict}");
    }
    let conditions = format!("# {}", conditions());
    match &options[..] {
        [] if moved == 0 => ExitCode::SUCCESS,
        [] => {
            println!(
                "\n{moved} moved by more than {TOLERANCE} %. If that is meant, or others are the conditions:"
            );
            println!("cargo bench -p ws-proto -- --renew, and the commit says why.");
            println!("baseline: {}\nthis run: {conditions}", before.lines().next().unwrap_or_default());
            ExitCode::FAILURE
        }
        [renew] if renew == "--renew" => {
            let lines =
                CASES.iter().filter_map(|case| Some(format!("{}\t{}\n", case.0, counts.get(case.0)?)));
            fs::write(&file, format!("{conditions}\n{}", lines.collect::<String>()))
                .expect("a baseline to write");
            ExitCode::SUCCESS
        }
        options => panic!("{options:?}: only --renew is known"),
    }
}

/// A line of the baseline.
fn entry(line: &str) -> Option<(&str, u64)> {
    let (name, count) = line.split_once('\t')?;
    Some((name, count.parse().ok()?))
}

/// How many instructions a run of so many messages takes, set-up and all.
fn instructions(name: &str, count: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().expect("where this program is"))
        .args(["--run", name, &count.to_string()])
        .env_clear() // Its length moves the stack.
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    let (_, rest) = said.split_once("Collected : ").expect("callgrind says what it counted");
    rest.lines().next().and_then(|count| count.trim().parse().ok()).expect("a number")
}

/// What the counts depend on besides the code. Valgrind shows programs no more than AVX2, so what is chosen at run time
/// is the same on every machine that has it.
fn conditions() -> String {
    let version = |program| {
        let output =
            Command::new(program).arg("--version").output().expect("a program that says its version");
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
    };
    let simd = if fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" avx2 ")) {
        "with"
    } else {
        "no"
    };
    let versions = ["rustc", "valgrind", "ldd"].map(version).join(", ");
    format!("{} {simd} AVX2, {versions}", env::consts::ARCH)
}

/// In per cent, up and down.
const TOLERANCE: f64 = 3.0;

/// Valgrind counts each step of `rep movsb`; so copies are made of vectors.
const TUNABLES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=100000000:glibc.cpu.x86_rep_stosb_threshold=100000000";
