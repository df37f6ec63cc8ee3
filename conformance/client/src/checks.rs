//! Named checks, one after another, and how many passed.

use std::{fmt::Debug, future::Future, process::ExitCode, time::Duration};

use sockeye::{Error, Result};
use tokio::time::timeout;

use crate::{CheckArgs, stranger::Stranger};

/// Long enough for the heaviest check on a busy machine of two cores, short enough that a hang shows
/// soon.
const TIME_PER_CHECK: Duration = Duration::from_secs(20);
/// What is shown of a value that is not as expected.
const SHOWN: usize = 120;

/// What came of the checks of one server.
#[derive(Debug)]
pub(crate) struct Checks {
    name: String,
    only: String,
    stranger: Stranger,
    passed: usize,
    failed: usize,
}

impl Checks {
    pub(crate) fn new(CheckArgs { address, name, only, no_compression }: CheckArgs) -> Self {
        Self { name, only, stranger: Stranger::at(address, no_compression), passed: 0, failed: 0 }
    }

    /// Whether the checks that do not say otherwise offer compression.
    pub(crate) fn offers_compression(&self) -> bool {
        !self.stranger.no_compression()
    }

    /// Runs one check, in a task of its own, so that a panic ends nothing else.
    pub(crate) async fn check<F>(&mut self, what: &str, body: impl FnOnce(Stranger) -> F)
    where
        F: Future<Output = Result> + Send + 'static,
    {
        if !what.contains(&self.only) {
            return;
        }
        let mut task = tokio::spawn(body(self.stranger.clone()));
        let outcome = match timeout(TIME_PER_CHECK, &mut task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(panic.into()),
            Err(_) => {
                task.abort();
                Err(format!("no result in {TIME_PER_CHECK:?}").into())
            }
        };
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok   {what}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL {what}: {}", in_one_line(&error));
            }
        }
    }

    /// Prints the line with which `conformance/run` counts.
    pub(crate) fn finish(self) -> ExitCode {
        println!("{}: {} passed, {} failed", self.name, self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Fails the check that asks if the two differ.
pub(crate) fn equal<T: PartialEq<U> + Debug, U: Debug>(
    actual: T,
    expected: U,
    what: &str,
) -> Result {
    ensure(actual == expected, || {
        format!("{what}: expected {}, got {}", short(&expected), short(&actual))
    })
}

/// Fails the check that asks if the condition does not hold.
pub(crate) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result {
    if holds { Ok(()) } else { Err(why().into()) }
}

fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() { format!("{shown}... ({} long)", text.len()) } else { shown }
}

fn in_one_line(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
