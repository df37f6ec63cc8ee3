//! How long deliveries took, counted in classes.

use std::time::Duration;

/// Classes for each doubling, which are at most 3 % wide.
const STEPS: usize = 32;

const CLASSES: usize = (u64::BITS - STEPS.ilog2() + 1) as usize * STEPS;

pub(super) struct Latencies {
    classes: Box<[u64; CLASSES]>,
    count: u64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { classes: Box::new([0; CLASSES]), count: 0 }
    }

    /// A delivery took this long.
    pub(super) fn record(&mut self, latency: Duration) {
        self.classes[class(latency.as_nanos() as u64)] += 1;
        self.count += 1;
    }

    /// How many deliveries there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How long so many of a hundred took at most, in nanoseconds.
    pub(super) fn percentile(&self, of_hundred: u64) -> f64 {
        let rank = (self.count * of_hundred).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.classes.iter().position(|deliveries| {
            seen += deliveries;
            seen >= rank
        });
        found.map_or(0.0, |class| end(class) as f64)
    }
}

/// Below `2 * STEPS` each has its own; above, the five bits after the first one count.
fn class(nanoseconds: u64) -> usize {
    let doublings = nanoseconds.max(STEPS as u64).ilog2() - STEPS.ilog2();
    doublings as usize * STEPS + (nanoseconds >> doublings) as usize
}

/// The longest in a class.
fn end(class: usize) -> u64 {
    let doublings = (class / STEPS).saturating_sub(1);
    let steps = class - doublings * STEPS;
    ((steps as u64 + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CLASSES, Latencies, class, end};

    #[test]
    fn a_class_ends_where_the_next_begins() {
        for nanoseconds in (0..100_000).chain([1_000_000_007, u64::MAX >> 1]) {
            let class = class(nanoseconds);
            assert!(nanoseconds <= end(class) && class < CLASSES, "{nanoseconds}");
            assert!(class == 0 || end(class - 1) < nanoseconds, "{nanoseconds}");
            assert!(end(class) - nanoseconds <= nanoseconds / 32, "{nanoseconds}");
        }
    }

    #[test]
    fn one_of_a_hundred_may_take_longer() {
        let mut latencies = Latencies::new();
        for _ in 0..98 {
            latencies.record(Duration::from_nanos(10));
        }
        latencies.record(Duration::from_nanos(20));
        latencies.record(Duration::from_secs(1));
        assert_eq!((latencies.count(), latencies.percentile(99)), (100, 20.0));
        latencies.record(Duration::from_secs(1));
        assert!(latencies.percentile(99) > 0.9e9);
    }
}
