//! A terminal on which a line is edited while messages come.

use std::{
    io::{self, IsTerminal, Write, stdin, stdout},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustyline::{Config, DefaultEditor, ExternalPrinter, config::Configurer, error::ReadlineError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::input::Typed;

/// The terminal that stdin and stdout are. A thread reads it, and is in the middle of that until the process ends.
pub(crate) struct Terminal {
    /// Prints above the line that is edited. It waits while the text before the last has not been printed.
    printer: Box<dyn ExternalPrinter + Send>,
    /// Whether the editor is to stop.
    stop: Arc<AtomicBool>,
    /// Tells that it has.
    stopped: mpsc::Receiver<()>,
    /// How the terminal was before.
    #[cfg(unix)]
    modes: Option<rustix::termios::Termios>,
}

impl Terminal {
    /// If this is a terminal, and one with which lines can be edited: it, and what is typed.
    pub(crate) fn open(history: Option<PathBuf>) -> Option<(Self, UnboundedReceiver<io::Result<Typed>>)> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return None;
        }
        #[cfg(unix)]
        let modes = rustix::termios::tcgetattr(stdin()).ok();
        // Without bracketed paste each line that is pasted is a line. Synchronized output would be left on at the end.
        let mut config = Config::builder().auto_add_history(true).bracketed_paste(false);
        config.enable_synchronized_output(false);
        let mut editor = DefaultEditor::with_config(config.build()).ok()?;
        let printer = Box::new(editor.create_external_printer().ok()?);
        // Unbounded, as the thread must go on printing, and a person types no more than fits.
        let (sender, typed) = unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, stopped) = mpsc::channel();
        let prompt = Prompt { text: "> ", stop: Arc::clone(&stop), stopping };
        thread::spawn(move || edit(editor, prompt, history.as_deref(), &sender));
        let terminal = Self {
            printer,
            stop,
            stopped,
            #[cfg(unix)]
            modes,
        };
        Some((terminal, typed))
    }

    /// Prints lines.
    pub(crate) fn print(&mut self, lines: String) -> io::Result<()> {
        self.printer.print(lines).map_err(io::Error::other)
    }

    /// Leaves the terminal as it was, when all has been printed.
    pub(crate) fn end(mut self) -> io::Result<()> {
        // One text waits at a time, so when this one does, the last message is on its way to the screen, where it is
        // before the next prompt.
        self.print(NOTHING.to_owned())?;
        self.stop.store(true, SeqCst);
        // Another, so that an editor which waits for a key draws a prompt. It need not be taken.
        let mut printer = self.printer;
        thread::spawn(move || printer.print(NOTHING.to_owned()));
        // An error says that the editor has ended itself, or is busy with a search.
        let _ = self.stopped.recv_timeout(Duration::from_secs(1));
        stdout().write_all(b"\r\x1b[K")?;
        stdout().flush()?;
        #[cfg(unix)]
        if let Some(modes) = &self.modes {
            rustix::termios::tcsetattr(stdin(), rustix::termios::OptionalActions::Now, modes)?;
        }
        Ok(())
    }
}

/// What is drawn before the line. The editor cannot be told to stop while it waits for a key, but it draws this
/// whenever it has printed something, and before it first waits. There it is stopped, when it has set up the terminal.
struct Prompt {
    text: &'static str,
    stop: Arc<AtomicBool>,
    stopping: mpsc::Sender<()>,
}

impl rustyline::Prompt for Prompt {
    fn raw(&self) -> &str {
        if self.stop.load(SeqCst) {
            let _ = self.stopping.send(());
            loop {
                thread::park();
            }
        }
        self.text
    }
}

/// Reads lines, also when they are no longer sent: it is the editor that prints messages.
fn edit(
    mut editor: DefaultEditor,
    mut prompt: Prompt,
    history: Option<&Path>,
    typed: &UnboundedSender<io::Result<Typed>>,
) {
    if let Some(file) = history {
        // There is none the first time.
        let _ = editor.load_history(file);
    }
    loop {
        let line = match editor.readline(&prompt) {
            Ok(line) => {
                let _ = history.map(|file| editor.append_history(file));
                Ok(Typed::Line(line.into_bytes()))
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => {
                prompt.text = "";
                Ok(Typed::End)
            }
            Err(error) => Err(io::Error::other(error)),
        };
        let goes_on = line.is_ok();
        if typed.send(line).is_err() || !goes_on {
            return;
        }
    }
}

/// A text to print that changes nothing on the screen: up a line, and down again.
const NOTHING: &str = "\x1b[A\n";
