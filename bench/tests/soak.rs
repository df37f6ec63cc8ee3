//! Does the soak find nothing in ten seconds? Longer runs are for people.

use std::process::Command;

#[test]
fn ten_seconds_with_some_hundred_connections_show_no_fault() {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_soak"));
    let output = soak.args(["--seconds", "10", "--connections", "150", "--topics", "10"]).output();
    let output = output.expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{faults}");
}
