//! An example that is running, for a test. It ends with the test.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

pub(crate) struct Process {
    child: Child,
    /// Held, as a program fails that nobody listens to.
    _output: BufReader<ChildStdout>,
    /// What it says that it listens on.
    pub(crate) url: String,
}

impl Process {
    /// Starts an example that prints `listening on URL` first.
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}"));
        Self { child, url: url.to_owned(), _output: output }
    }

    /// Presses Ctrl-C.
    #[allow(dead_code, reason = "not every example is tested with it")]
    pub(crate) fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    #[allow(dead_code, reason = "not every example is tested with it")]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
