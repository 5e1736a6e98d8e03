//! What the examples share: their command lines.

use std::{fmt::Display, str::FromStr};

/// The words of a command line, `--name value` among them.
pub struct Words(Vec<String>);

impl Words {
    /// The words this process was started with.
    pub fn of_process() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// Takes every value of an option that may be repeated.
    pub fn all(&mut self, name: &str) -> Vec<String> {
        std::iter::from_fn(|| self.option(name)).collect()
    }

    /// Takes the value of an option; ends the process if it cannot be understood.
    pub fn option<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let at = self.0.iter().position(|word| word == name)?;
        let mut words = self.0.drain(at..(at + 2).min(self.0.len()));
        let value = words.nth(1).unwrap_or_else(|| fail(&format!("{name} needs a value")));
        Some(value.parse().unwrap_or_else(|error| fail(&format!("{name} {value}: {error}"))))
    }

    /// Takes the next word that belongs to no option.
    pub fn positional(&mut self) -> Option<String> {
        let at = self.0.iter().position(|word| !word.starts_with("--"))?;
        Some(self.0.remove(at))
    }

    /// Ends the process if a word was not understood.
    pub fn end(self, usage: &str) {
        if let Some(word) = self.0.first() {
            fail(&format!("{word} is not understood\nusage: {usage}"));
        }
    }
}

/// The runtime a program is asked to run on.
#[derive(Clone, Copy, Default)]
pub enum Runtime {
    /// That of ws-tokio.
    #[default]
    Tokio,
    /// That of ws-async-std.
    AsyncStd,
}

impl FromStr for Runtime {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "tokio" => Ok(Self::Tokio),
            "async-std" => Ok(Self::AsyncStd),
            _ => Err("tokio or async-std"),
        }
    }
}

/// Says why on the standard error and ends the process with status 2.
pub fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(2)
}
