//! Processes, their processors, and a server as the kernel sees it.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{
    Result,
    serve::{Contender, Expected},
};

/// A server in a process of its own, ended when dropped. With one worker it is pinned to the first
/// processor, with two it may use the second as well.
pub(crate) struct Process {
    child: Child,
    pub(crate) port: u16,
}

impl Process {
    pub(crate) fn start(contender: Contender, expected: Expected) -> Result<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", if expected.workers == 1 { "0" } else { "0,1" }])
            .args(contender.command()?)
            .args(expected.arguments())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start `taskset` (from util-linux): {error}"))?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port =
            line.trim().parse().map_err(|_| format!("{} did not start", contender.name()))?;
        Ok(Self { child, port })
    }

    /// The time its threads have been on a processor, in nanoseconds.
    pub(crate) fn cpu(&self) -> Result<u64> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = schedstat.split(' ').next().ok_or("an empty schedstat")?;
            total += on_cpu.parse::<u64>()?;
        }
        Ok(total)
    }

    /// The memory it holds for itself, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)).ok_or("no RssAnon")?;
        Ok(kib.parse::<u64>()? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the servers' processor from sleeping, with a process that runs when nothing else wants to.
///
/// What waking costs depends on how deep the processor slept, and that on what ran before. On a
/// virtual machine this brought the samples of a row from a fifth apart to a few hundredths.
pub(crate) struct Awake(Child);

impl Awake {
    pub(crate) fn start() -> Result<Self> {
        let child = Command::new("chrt")
            .args(["--idle", "0", "taskset", "-c", "0"])
            .arg(std::env::current_exe()?)
            .arg("spin")
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start `chrt` (from util-linux): {error}"))?;
        Ok(Self(child))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does nothing, at full speed, until whoever started this has gone.
pub(crate) fn spin() -> Result {
    thread::spawn(|| {
        loop {
            std::hint::black_box(());
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// Pins this process to the second processor.
pub(crate) fn pin_self() -> Result {
    let id = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-cp", "1", &id]).stdout(Stdio::null()).status()?;
    if !pinned.success() {
        return Err("cannot pin the load to the second processor".into());
    }
    Ok(())
}

/// Has so many files open in this process, and in the servers that it starts from now on.
pub(crate) fn allow_open_files(count: usize) -> Result {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut limits = line.unwrap_or_default().split_whitespace();
    let mut limit = || limits.next().map(|limit| limit.parse().unwrap_or(usize::MAX));
    let (Some(soft), Some(hard)) = (limit(), limit()) else {
        return Err("there is no limit of open files in `/proc/self/limits`".into());
    };
    if count > hard {
        return Err(format!(
            "{count} open files are needed in each of two processes, and no more than {hard} are \
             allowed: raise the hard limit (`ulimit -Hn`)"
        )
        .into());
    }
    if count > soft {
        let status = Command::new("prlimit")
            .args(["--pid", &std::process::id().to_string(), &format!("--nofile={count}:")])
            .status()
            .map_err(|error| format!("cannot start `prlimit` (from util-linux): {error}"))?;
        if !status.success() {
            return Err("cannot raise the limit of open files".into());
        }
    }
    Ok(())
}
