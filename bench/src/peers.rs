//! The peers that are scripts: `npm ci` brings what they need, beside this program.

use std::{fs, path::PathBuf, process::Command};

use crate::Result;

const FILES: [(&str, &str); 4] = [
    ("ws.mjs", include_str!("../peers/ws.mjs")),
    ("bun.mjs", include_str!("../peers/bun.mjs")),
    ("package.json", include_str!("../peers/package.json")),
    ("package-lock.json", LOCK),
];

/// The versions, for the report as well.
pub(crate) const LOCK: &str = include_str!("../peers/package-lock.json");

/// Installs the packages if that has not been done with this lock file.
pub(crate) fn install() -> Result {
    let directory = directory()?;
    fs::create_dir_all(&directory)?;
    // Node looks for packages next to the script.
    for (name, content) in FILES {
        fs::write(directory.join(name), content)?;
    }
    let installed = directory.join("node_modules/installed.json");
    if fs::read_to_string(&installed).is_ok_and(|lock| lock == LOCK) {
        return Ok(());
    }
    // Bun comes as a package of its own, so that no script of a package has to run.
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&directory)
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("cannot start `npm`: {error}"))?;
    if !status.success() {
        return Err("`npm ci` failed".into());
    }
    fs::write(installed, LOCK)?;
    Ok(())
}

/// Where scripts and packages are.
pub(crate) fn directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.with_file_name("bench-peers"))
}

/// Bun's own program, not the script that would look for it.
pub(crate) fn bun() -> Result<PathBuf> {
    let packages = directory()?.join("node_modules/@oven");
    let programs = fs::read_dir(packages)?.filter_map(|package| {
        let program = package.ok()?.path().join("bin/bun");
        program.exists().then_some(program)
    });
    programs.last().ok_or_else(|| "there is no Bun for this machine".into())
}
