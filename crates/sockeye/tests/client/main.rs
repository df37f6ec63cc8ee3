//! Does the client do what it says, against servers that keep to the RFC and servers that do not?

mod answer;
mod closing;
mod connecting;
mod failing;
mod handler;
#[cfg(target_os = "linux")]
mod linux;
mod messages;
mod request;
mod server;
