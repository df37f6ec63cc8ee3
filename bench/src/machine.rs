//! What a run was made on and with.

use std::{fmt, fs, process::Command};

use serde::Serialize;

use crate::{Result, peers};

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    compiler: &'static str,
    servers: Vec<String>,
}

impl Machine {
    pub(crate) fn read() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let with = |user, name| format!("{name} {}", version(user, name).unwrap_or("unknown"));
        Ok(Self {
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            processors: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            compiler: env!("COMPILER"),
            servers: vec![
                with("sockeye-bench", "sockeye"),
                with("sockeye-bench", "tokio-tungstenite"),
                format!(
                    "{} with {}",
                    with("sockeye-bench", "axum"),
                    with("axum", "tokio-tungstenite")
                ),
                with("sockeye-bench", "fastwebsockets"),
                with("sockeye-bench", "tokio"),
                format!("ws {} with Node {}", package("ws").unwrap_or("unknown"), node()),
                format!("bun {}", package("bun").unwrap_or("unknown")),
            ],
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "- {} processors, {}; Linux {}", self.processors, self.processor, self.kernel)?;
        writeln!(f, "- {}; {}", self.servers.join(", "), self.compiler)
    }
}

/// The version of the package `name` that the package `user` was built with.
fn version(user: &str, name: &str) -> Option<&'static str> {
    const LOCK: &str = include_str!("../../Cargo.lock");
    let package = |name: &str| {
        let head = format!("\nname = \"{name}\"\nversion = \"");
        LOCK.split("[[package]]").find_map(|package| package.strip_prefix(&*head))
    };
    // A dependency is listed with its version only if the lock file has several.
    let several = package(user)?.split_once(&format!("\"{name} "));
    several.map_or_else(|| package(name), |(_, listed)| Some(listed))?.split('"').next()
}

/// Only the rows with compression or fan-out need it, so here it may be missing.
fn node() -> String {
    let output = Command::new("node").arg("--version").output();
    let version = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    let version = String::from_utf8_lossy(&version);
    if version.is_empty() { "missing".to_owned() } else { version.trim().to_owned() }
}

/// The version of a package of Node's.
fn package(name: &str) -> Option<&'static str> {
    let (_, package) = peers::LOCK.split_once(&format!("\"node_modules/{name}\": {{"))?;
    let (_, version) = package.split_once("\"version\": \"")?;
    version.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::{package, version};

    #[test]
    fn a_package_that_is_there_twice_has_the_version_of_its_user() {
        assert_ne!(version("sockeye-bench", "tokio-tungstenite"), None);
        assert_ne!(
            version("axum", "tokio-tungstenite"),
            version("sockeye-bench", "tokio-tungstenite")
        );
        assert_eq!(version("axum", "tokio"), version("sockeye-bench", "tokio"));
        assert_eq!(version("sockeye-bench", "sockeye"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(version("sockeye-bench", "sock"), None);
    }

    #[test]
    fn a_package_of_nodes_has_the_version_that_was_asked_for() {
        for name in ["ws", "bun"] {
            let version = package(name).expect("it is in the lock file");
            let asked = format!("\"{name}\": \"{version}\"");
            assert!(include_str!("../peers/package.json").contains(&asked), "{asked}");
        }
    }
}
