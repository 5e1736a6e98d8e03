//! A client for the terminal and for scripts: each line typed is sent as a message, each message that comes is printed.
//!
//!     cargo run --release --bin client -- ws://127.0.0.1:9001/
//!     echo hello | cargo run --release --bin client -- --count 1 ws://127.0.0.1:9001/
//!
//! It shows a `Connector` with all that a request can carry, TLS with one's own certificates, and a connection in two
//! halves, so that a server which does not read keeps nobody from printing what it sends. `--help` lists the options.

mod input;
mod json;
mod options;
mod screen;
mod terminal;

use std::{process::exit, time::Duration};

use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use ws_tokio::{CloseCode, Closed, Error, HandshakeError, ReadHalf, SendError, WriteHalf};

use input::{Input, Outgoing, Typed};
use options::Options;
use screen::{Screen, Stopwatch};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let outcome = run(&Options::of_process()).await;
    if let Err(Failure { why, .. }) = &outcome {
        eprintln!("client: {why}");
    }
    let status = outcome.map_or_else(|failure| failure.status, |()| 0);
    // A read of stdin that is under way would hold the process.
    exit(status);
}

async fn run(options: &Options) -> Result<(), Failure> {
    let (ws, response) = options.connector.connect(&options.url).await?;
    let agreed = ["sec-websocket-protocol", "sec-websocket-extensions"];
    let agreed = agreed.iter().filter_map(|name| response.headers().get(*name)?.to_str().ok());
    screen::note(&agreed.fold("connected".to_owned(), |all, one| format!("{all}, {one}")));

    let (mut input, terminal) = Input::start(options);
    let watch = Stopwatch::start();
    let mut screen = Screen::new(terminal, options.json, watch);
    let (mut reader, mut writer) = ws.split();
    let outcome = select! {
        biased;
        outcome = receive(&mut reader, &mut screen, options) => outcome,
        outcome = send(&mut writer, &mut input, watch, options) => outcome,
    };
    screen.end();
    let interrupted = matches!(outcome, Err(Failure { status: INTERRUPTED, .. }));
    if reader.closed().is_none() && !interrupted {
        // It is we who leave: enough has come, a time has passed, or stdin or stdout has failed.
        let _ = timeout(FAREWELL, leave(&mut reader, &mut writer)).await;
    }
    if let Some(closed) = reader.closed() {
        screen::note(&format!("closed {} {}", closed.code, closed.reason));
    }
    outcome
}

/// Prints what comes, until the end.
async fn receive(reader: &mut ReadHalf, screen: &mut Screen, options: &Options) -> Result<(), Failure> {
    let mut count = 0;
    while let Some(printed) = reader.recv_with(|event| screen.event(event)).await? {
        count += u64::from(printed.map_err(|error| Failure::new(BROKEN, format!("stdout: {error}")))?);
        if options.count.is_some_and(|wanted| wanted.get() == count) {
            return Ok(());
        }
    }
    let expected = [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::NO_STATUS];
    match reader.closed() {
        _ if options.count.is_some() => Err(Failure::new(CLOSED, format!("only {count} messages came"))),
        Some(Closed { code, .. }) if !expected.contains(&code) => {
            Err(Failure::new(CLOSED, "the server did not close normally"))
        }
        _ => Ok(()),
    }
}

/// Sends what is typed, and pings. It returns for a reason to leave, so without one it goes on after it has closed.
async fn send(
    writer: &mut WriteHalf,
    input: &mut Input,
    watch: Stopwatch,
    options: &Options,
) -> Result<(), Failure> {
    let mut phase = Phase::Typing;
    let mut pings = interval(options.ping.unwrap_or(NEVER));
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut patience = Instant::now() + NEVER;
    loop {
        let sent = select! {
            typed = input.next() => match (typed?, phase) {
                (Typed::Line(line), Phase::Typing) => match Outgoing::new(line, options)? {
                    Outgoing::Message(message) => writer.send(message).await,
                    Outgoing::Ping(payload) => writer.ping(&payload).await,
                },
                (Typed::Line(_), Phase::Listening | Phase::Closing) => Ok(()),
                (Typed::End, Phase::Typing) if options.count.is_some() || options.wait.is_some() => {
                    phase = Phase::Listening;
                    patience = Instant::now() + options.wait.unwrap_or(NEVER);
                    Ok(())
                }
                // What the server has sent before it sees the Close frame is still printed.
                (Typed::End, Phase::Typing | Phase::Listening) => {
                    phase = Phase::Closing;
                    writer.start_close(CloseCode::NORMAL, "")
                }
                (Typed::End, Phase::Closing) => return Err(Failure::new(INTERRUPTED, "interrupted")),
            },
            _ = pings.tick(), if options.ping.is_some() && phase != Phase::Closing => {
                writer.ping(watch.ping().as_bytes()).await
            }
            () = sleep_until(patience), if phase == Phase::Listening => match options.count {
                Some(count) => {
                    return Err(Failure::new(TIMEOUT, format!("fewer than {count} messages came in time")));
                }
                None => {
                    phase = Phase::Closing;
                    writer.start_close(CloseCode::NORMAL, "")
                }
            },
        };
        match sent {
            // The server has closed, about which the other half tells.
            Err(Error::Send(SendError::Closed)) => phase = Phase::Closing,
            sent => sent?,
        }
    }
}

/// Closes, and drops what still comes.
async fn leave(reader: &mut ReadHalf, writer: &mut WriteHalf) -> Result<(), Error> {
    writer.start_close(CloseCode::NORMAL, "")?;
    while reader.recv().await?.is_some() {}
    Ok(())
}

/// What of the way to the end has been gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Whatever is typed is sent.
    Typing,
    /// The input has ended, and answers are waited for.
    Listening,
    /// Our Close frame is on its way.
    Closing,
}

/// Why the program does not end well.
struct Failure {
    status: i32,
    why: String,
}

impl Failure {
    fn new(status: i32, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Handshake(HandshakeError::Timeout | HandshakeError::ConnectTimeout(_)) => TIMEOUT,
            Error::Handshake(
                HandshakeError::Url(_)
                | HandshakeError::Field(_)
                | HandshakeError::ReservedField(_)
                | HandshakeError::SubprotocolOffer(_),
            ) => USAGE,
            Error::Timeout(_) => TIMEOUT,
            _ => BROKEN,
        };
        Self::new(status, error.to_string())
    }
}

// The statuses of `--help`; 2 is that of `ws_examples::fail`, too.
const BROKEN: i32 = 1;
const USAGE: i32 = 2;
const TIMEOUT: i32 = 3;
const CLOSED: i32 = 4;
const INTERRUPTED: i32 = 130;

/// How long a server may take to answer our farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_secs(1 << 30);
