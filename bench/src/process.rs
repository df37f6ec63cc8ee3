//! A server as the kernel sees it.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use crate::{Result, serve::Peer};

/// A server in a process of its own, pinned to the first processor; ended when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) port: u16,
}

impl Process {
    pub(crate) fn start(peer: Peer) -> Result<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(std::env::current_exe()?)
            .args(["serve", peer.name()])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start `taskset` (from util-linux): {error}"))?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().parse().map_err(|_| format!("{} did not start", peer.name()))?;
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

/// Pins this process to the second processor.
pub(crate) fn pin_self() -> Result {
    let id = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-cp", "1", &id]).stdout(Stdio::null()).status()?;
    if !pinned.success() {
        return Err("cannot pin the load to the second processor".into());
    }
    Ok(())
}
