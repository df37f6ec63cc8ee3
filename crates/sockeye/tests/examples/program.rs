//! An example as a process of its own, ended with the test whatever way that ends.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use crate::TIME;

pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts the example of this name on a free port and waits until it is ready.
    pub(crate) fn start(name: &str) -> Self {
        let mut program = Self::start_with(name, "127.0.0.1:0");
        let ready = program.line();
        let address = ready.strip_prefix("listening on http://").expect("the line of readiness");
        program.address = address.parse().expect("an address");
        assert_ne!(program.address.port(), 0, "the port it got, not the one asked for");
        program
    }

    /// Starts the example of this name with an argument.
    pub(crate) fn start_with(name: &str, argument: &str) -> Self {
        let path = path(name);
        let mut child = Command::new(&path)
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; `cargo build --examples` builds it", path.display())
            });
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        // A read of a pipe cannot be given up, so a thread of its own does it.
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        // From here on a panic drops the program, and that ends its process.
        Self { child, lines, address: ([127, 0, 0, 1], 0).into() }
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input has not ended");
        writeln!(stdin, "{line}").expect("it reads what is typed");
    }

    /// Asks it to end, as a supervisor does.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().expect("`kill` runs");
        assert!(status.success(), "it is still there");
    }

    /// Ends the input.
    pub(crate) fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// The next line that it prints.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(TIME).expect("a line")
    }

    /// Whether it prints nothing for this time.
    pub(crate) fn is_silent_for(&self, time: Duration) -> bool {
        self.lines.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if it has ended by itself, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo puts the examples beside the directory of the tests' own binaries.
fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
