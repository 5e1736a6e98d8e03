//! What is printed: messages to stdout, all else to stderr.

use std::{
    env,
    io::{self, IsTerminal, Write, stderr, stdout},
    time::{Duration, Instant},
};

use ws_tokio::Event;

use crate::{json, terminal::Terminal};

/// Where messages are printed, and how.
pub(crate) struct Screen {
    /// If a line is edited meanwhile.
    terminal: Option<Terminal>,
    is_terminal: bool,
    json: bool,
    watch: Stopwatch,
}

impl Screen {
    pub(crate) fn new(terminal: Option<Terminal>, json: bool, watch: Stopwatch) -> Self {
        Self { terminal, is_terminal: stdout().is_terminal(), json, watch }
    }

    /// Prints an event, and says whether it was a message.
    pub(crate) fn event(&mut self, event: Event<'_>) -> io::Result<bool> {
        match event {
            Event::Text(text) => {
                let text = text.as_str();
                let laid_out = if self.json { json::layout(text) } else { None };
                self.message(laid_out.as_deref().unwrap_or(text), TEXT)?;
            }
            Event::Binary(payload) if self.is_terminal => self.message(&hexadecimal(payload), BINARY)?,
            Event::Binary(payload) => write(payload)?,
            Event::Ping(payload) => self.note(&format!("ping {}", payload.escape_ascii()))?,
            Event::Pong(payload) => match self.watch.since(payload) {
                Some(time) => self.note(&format!("pong after {time:.1?}"))?,
                None => self.note(&format!("pong {}", payload.escape_ascii()))?,
            },
            _ => {}
        }
        Ok(matches!(event, Event::Text(_) | Event::Binary(_)))
    }

    /// Leaves the terminal as it was, when all has been printed.
    pub(crate) fn end(self) {
        // It may be gone, and there is no other to tell.
        let _ = self.terminal.map(Terminal::end);
    }

    fn message(&mut self, text: &str, colour: &str) -> io::Result<()> {
        if !self.is_terminal {
            return write(format!("{text}\n").as_bytes());
        }
        let lines = format!("{}\n", painted(&visible(text), colour));
        match &mut self.terminal {
            Some(terminal) => terminal.print(lines),
            None => write(lines.as_bytes()),
        }
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        match &mut self.terminal {
            Some(terminal) if stderr().is_terminal() => terminal.print(format!("{}\n", noted(text))),
            _ => {
                note(text);
                Ok(())
            }
        }
    }
}

/// Says something about the connection, when no line is edited.
pub(crate) fn note(text: &str) {
    eprintln!("{}", noted(text));
}

/// When it was started stands in each ping, so that its pong tells how long the two took.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// What a ping is to carry.
    pub(crate) fn ping(self) -> String {
        format!("{PING}{}", self.0.elapsed().as_nanos())
    }

    /// How long ago this was sent; `None` if it was not [`ping`](Self::ping).
    fn since(self, pong: &[u8]) -> Option<Duration> {
        let nanos = str::from_utf8(pong).ok()?.strip_prefix(PING)?.parse().ok()?;
        self.0.elapsed().checked_sub(Duration::from_nanos(nanos))
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn noted(text: &str) -> String {
    let text = format!("[{}]", visible(text).trim_end());
    if stderr().is_terminal() { painted(&text, NOTE) } else { text }
}

/// In a colour, unless nobody wants colours.
fn painted(text: &str, colour: &str) -> String {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("NO_COLOR") || env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return text.to_owned();
    }
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// With characters written out that a terminal would obey.
fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => visible.push(c),
            c if c.is_control() => visible.extend(c.escape_unicode()),
            c => visible.push(c),
        }
    }
    visible
}

/// How long it is, and how it begins.
fn hexadecimal(payload: &[u8]) -> String {
    let begin = &payload[..payload.len().min(MOST_SHOWN)];
    let hex: String = begin.iter().map(|byte| format!(" {byte:02x}")).collect();
    let text: String =
        begin.iter().map(|&byte| if (0x20..0x7f).contains(&byte) { byte.into() } else { '.' }).collect();
    let more = if begin.len() < payload.len() { " ..." } else { "" };
    format!("[{} bytes]{hex}{more}  {text}", payload.len())
}

/// What our pings begin with.
const PING: &str = "client ";

/// Most bytes of a binary message that are shown on a terminal.
const MOST_SHOWN: usize = 16;

// SGR parameters: cyan, yellow, faint.
const TEXT: &str = "36";
const BINARY: &str = "33";
const NOTE: &str = "2";
