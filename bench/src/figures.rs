//! From samples to what a reader asks.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::serve::Contender;

/// One for each round, of each server that was measured.
pub(crate) type Samples = BTreeMap<Contender, Vec<f64>>;

/// A figure of each server, and the ratios that there are targets for.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    work: String,
    unit: Unit,
    servers: Vec<Figure>,
    /// None if only sockeye was measured.
    ratios: Option<Ratios>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "ns of server CPU per message")]
    Nanoseconds,
    #[serde(rename = "bytes of memory per connection")]
    Bytes,
    #[serde(rename = "bytes of an answer on the wire")]
    OnTheWire,
    #[serde(rename = "ns of latency, 99th percentile")]
    Latency,
}

#[derive(Debug, Serialize)]
struct Figure {
    server: &'static str,
    #[serde(flatten)]
    spread: Spread,
    to_handler: Spread,
    samples: Vec<f64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Ratios {
    /// The peer with the lowest median.
    best_peer: &'static str,
    handler_to_best_peer: Spread,
    /// None in a row without the loop.
    loop_to_handler: Option<Spread>,
}

/// Two ways to do a thing, side by side in each round.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    what: String,
    server: &'static str,
    result: Spread,
}

/// What came of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Row {
    /// The header over a row as it is displayed.
    pub(crate) const FIGURES: &str = "\
        | work | server | median (lowest to highest) | to `Handler` |\n\
        |---|---|---|---|";

    /// The header over the lines of [`ratios`](Self::ratios).
    pub(crate) const RATIOS: &str = "\
        | work | `Handler` to the best peer | which is | `WebSocket` loop to `Handler` |\n\
        |---|---|---|---|";

    /// There are samples of the `Handler`, and as many of each other that has some.
    pub(crate) fn new(work: impl Into<String>, unit: Unit, samples: &Samples) -> Self {
        let handler = &samples[&Contender::Sockeye];
        let figure = |(contender, samples): (&Contender, &Vec<f64>)| Figure {
            server: contender.name(),
            spread: Spread::of(samples),
            to_handler: Spread::of_ratio(samples, handler),
            samples: samples.clone(),
        };
        let servers = samples.iter().map(figure).collect();
        // What a message is compressed to is a matter of level and window, and told beside its cost.
        // Latency has a good part of the load in it.
        let ratios = match unit {
            Unit::Nanoseconds | Unit::Bytes => Ratios::new(samples),
            Unit::OnTheWire | Unit::Latency => None,
        };
        Self { work: work.into(), unit, servers, ratios }
    }

    pub(crate) fn ratios(&self) -> Option<String> {
        let Ratios { best_peer, handler_to_best_peer, loop_to_handler } = self.ratios.as_ref()?;
        let work = &self.work;
        let loop_to_handler = loop_to_handler.map_or_else(String::new, |spread| spread.to_string());
        Some(format!("| {work} | {handler_to_best_peer} | {best_peer} | {loop_to_handler} |"))
    }
}

/// The lines under [`Row::FIGURES`].
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, in_one) = match self.unit {
            Unit::Nanoseconds => ("ns", 1.0),
            Unit::Bytes => ("B", 1.0),
            Unit::OnTheWire => ("B on the wire", 1.0),
            Unit::Latency => ("µs at p99", 1000.0),
        };
        for Figure { server, spread, to_handler, .. } in &self.servers {
            let spread = spread.in_units_of(in_one);
            writeln!(f, "| {}, {unit} | {server} | {spread:.0} | {to_handler} |", self.work)?;
        }
        Ok(())
    }
}

impl Ratios {
    fn new(samples: &Samples) -> Option<Self> {
        let handler = samples.get(&Contender::Sockeye)?;
        let peers = samples.iter().filter(|(contender, _)| contender.is_peer());
        let median = |samples: &[f64]| Spread::of(samples).median;
        let (peer, best) = peers.min_by(|(_, a), (_, b)| median(a).total_cmp(&median(b)))?;
        Some(Self {
            best_peer: peer.name(),
            handler_to_best_peer: Spread::of_ratio(handler, best),
            loop_to_handler: samples
                .get(&Contender::SockeyeLoop)
                .map(|samples| Spread::of_ratio(samples, handler)),
        })
    }
}

impl Comparison {
    /// The header over the lines.
    pub(crate) const HEADER: &str = "\
        | what | server | median (lowest to highest) |\n\
        |---|---|---|";

    /// How many times as much the one is as the other, for each server that did both.
    pub(crate) fn ratio(what: &str, one: &Samples, other: &Samples) -> Vec<Self> {
        Self::of(what, one, other, |one, other| one / other)
    }

    /// How much more the one is than the other.
    pub(crate) fn difference(what: &str, one: &Samples, other: &Samples) -> Vec<Self> {
        Self::of(what, one, other, |one, other| one - other)
    }

    /// How many times as much each is as that of one server, if that was measured.
    pub(crate) fn to(what: &str, samples: &Samples, base: Contender) -> Vec<Self> {
        let Some(base_samples) = samples.get(&base) else { return Vec::new() };
        let others = samples.iter().filter(|(contender, _)| **contender != base);
        let results = others.map(|(contender, samples)| Self {
            what: what.to_owned(),
            server: contender.name(),
            result: Spread::of_ratio(samples, base_samples),
        });
        results.collect()
    }

    fn of(what: &str, one: &Samples, other: &Samples, compare: fn(f64, f64) -> f64) -> Vec<Self> {
        let both = one.iter().filter_map(|(contender, one)| {
            let other = other.get(contender)?;
            let results: Vec<_> =
                one.iter().zip(other).map(|(one, other)| compare(*one, *other)).collect();
            Some((contender.name(), Spread::of(&results)))
        });
        both.map(|(server, result)| Self { what: what.to_owned(), server, result }).collect()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, server, result } = self;
        write!(f, "| {what} | {server} | {result:.2} |")
    }
}

impl Spread {
    fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: sorted[sorted.len() / 2],
            lowest: sorted[0],
            highest: sorted[sorted.len() - 1],
        }
    }

    fn in_units_of(self, one: f64) -> Self {
        let Self { median, lowest, highest } = self;
        Self { median: median / one, lowest: lowest / one, highest: highest / one }
    }

    /// Round by round: what disturbs the machine for longer than a round disturbs both.
    fn of_ratio(samples: &[f64], base: &[f64]) -> Self {
        let ratios: Vec<_> = samples.iter().zip(base).map(|(sample, base)| sample / base).collect();
        Self::of(&ratios)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, lowest, highest } = self;
        let digits = f.precision().unwrap_or(2);
        write!(f, "{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Contender, Ratios, Samples, Spread};

    #[test]
    fn ratios_are_taken_round_by_round_and_against_the_best_peer() {
        let samples = Samples::from([
            (Contender::Sockeye, vec![10.0, 20.0, 40.0]),
            (Contender::SockeyeLoop, vec![11.0, 24.0, 60.0]),
            (Contender::Axum, vec![30.0, 30.0, 30.0]),
            (Contender::Fastwebsockets, vec![20.0, 20.0, 50.0]),
        ]);
        let expected = Ratios {
            best_peer: "fastwebsockets",
            handler_to_best_peer: Spread { median: 0.8, lowest: 0.5, highest: 1.0 },
            loop_to_handler: Some(Spread { median: 1.2, lowest: 1.1, highest: 1.5 }),
        };
        assert_eq!(Ratios::new(&samples), Some(expected));
    }

    #[test]
    fn each_is_compared_to_one_if_that_was_measured() {
        let mut samples = Samples::from([
            (Contender::Sockeye, vec![10.0, 20.0, 40.0]),
            (Contender::Axum, vec![30.0, 30.0, 30.0]),
        ]);
        assert!(Comparison::to("", &samples, Contender::Bun).is_empty());
        samples.insert(Contender::Bun, vec![20.0, 20.0, 50.0]);
        let compared = Comparison::to("", &samples, Contender::Bun);
        let servers: Vec<_> = compared.iter().map(|comparison| comparison.server).collect();
        assert_eq!(servers, ["sockeye", "axum"]);
        assert_eq!(compared[0].result, Spread { median: 0.8, lowest: 0.5, highest: 1.0 });
    }
}
