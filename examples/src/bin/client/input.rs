//! What is typed: lines from the terminal's editor, or whatever stdin is.

use std::{future::pending, io};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, stdin},
    sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel},
};
use ws_tokio::{Bytes, Message};

use crate::{BROKEN, Failure, options::Options, terminal::Terminal};

/// What somebody or something types.
pub(crate) enum Typed {
    Line(Vec<u8>),
    /// No line follows. A person can say it more than once.
    End,
}

/// Where it comes from.
pub(crate) enum Input {
    Editor(UnboundedReceiver<io::Result<Typed>>),
    /// With room for one line: who does not take them is not to have them all in memory.
    Stdin(Receiver<io::Result<Typed>>),
}

impl Input {
    /// Begins to read. The terminal, if there is an editor, shows what comes meanwhile.
    pub(crate) fn start(options: &Options) -> (Self, Option<Terminal>) {
        if !options.whole
            && let Some((terminal, typed)) = Terminal::open(options.history.clone())
        {
            return (Self::Editor(typed), Some(terminal));
        }
        let (sender, typed) = channel(1);
        let (whole, binary) = (options.whole, options.binary);
        tokio::spawn(async move {
            let end = read(whole, binary, &sender).await;
            sender.send(end.map(|()| Typed::End)).await
        });
        (Self::Stdin(typed), None)
    }

    /// The next; for ever waited for once there is none. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Typed, Failure> {
        let typed = match self {
            Self::Editor(typed) => typed.recv().await,
            Self::Stdin(typed) => typed.recv().await,
        };
        match typed {
            Some(typed) => typed.map_err(|error| Failure::new(BROKEN, format!("stdin: {error}"))),
            None => pending().await,
        }
    }
}

/// Reads stdin to its end.
async fn read(whole: bool, binary: bool, sender: &Sender<io::Result<Typed>>) -> io::Result<()> {
    if whole {
        let mut all = Vec::new();
        stdin().read_to_end(&mut all).await?;
        let _ = sender.send(Ok(Typed::Line(all))).await;
        return Ok(());
    }
    let mut lines = BufReader::new(stdin()).split(b'\n');
    while let Some(mut line) = lines.next_segment().await? {
        if !binary && line.ends_with(b"\r") {
            line.pop();
        }
        let _ = sender.send(Ok(Typed::Line(line))).await;
    }
    Ok(())
}

/// What a line asks to be sent.
pub(crate) enum Outgoing {
    Message(Message),
    Ping(Bytes),
}

impl Outgoing {
    pub(crate) fn new(line: Vec<u8>, options: &Options) -> Result<Self, Failure> {
        if options.binary {
            return Ok(Self::Message(line.into()));
        }
        let Ok(text) = String::from_utf8(line) else {
            return Err(Failure::new(BROKEN, "stdin is not UTF-8; --binary sends any bytes"));
        };
        let ping = text.strip_prefix("/ping").filter(|rest| rest.is_empty() || rest.starts_with(' '));
        Ok(match ping {
            Some(payload) if !options.whole => Self::Ping(Bytes::copy_from_slice(payload.trim().as_bytes())),
            _ => Self::Message(text.into()),
        })
    }
}
