//! The program, started for a test.

#[path = "../../../sockeye/tests/util/tcp.rs"]
pub(crate) mod tcp;

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
};

use self::tcp::within;

/// The program, told to log nothing but what a test asks for, and gone when the test is.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockeye"));
    command.args(args).env_remove("RUST_LOG").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program while it serves.
pub(crate) struct Program {
    child: Child,
    pub(crate) addr: SocketAddr,
    stdout: BufReader<ChildStdout>,
    stderr: JoinHandle<String>,
}

/// What was left to read of the program, and how it ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What came after the first line.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::spawn(command(args)).await
    }

    pub(crate) async fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program is built");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        // Read at once, as a program whose log nobody reads stands still in the end.
        let stderr = tokio::spawn(async move {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await.expect("a log of text");
            text
        });
        let mut line = String::new();
        within(stdout.read_line(&mut line)).await.expect("a line");
        let addr =
            line.strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix('\n'));
        let addr = addr.and_then(|addr| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("the line says where it listens: {line:?}"));
        Self { child, addr, stdout, stderr }
    }

    pub(crate) async fn serve(more: &[&str]) -> Self {
        Self::start(&[&["serve", "--listen", "127.0.0.1:0"], more].concat()).await
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs still").to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("`kill` is there").success());
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let mut rest = String::new();
        within(self.stdout.read_to_string(&mut rest)).await.expect("text");
        Ended {
            status: within(self.child.wait()).await.unwrap(),
            stdout: rest,
            stderr: within(self.stderr).await.unwrap(),
        }
    }
}

/// The program where it is expected to end by itself: exit code, stdout and stderr.
pub(crate) async fn fails(args: &[&str]) -> (Option<i32>, String, String) {
    let output = within(command(args).output()).await.expect("the program is built");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}
