//! A game whose rooms are part of the path, and whose score is changed by assignment.
//!
//! Start it with `cargo run -p sockeye --example game`, then play from another terminal by sending
//! numbers from 1 to 6: `npx wscat -c ws://127.0.0.1:8080/game/red`. An argument is the address to
//! listen on.

use sockeye::{Accept, Close, Handler, Handshake, Message, Rejection, Result, Server, Session};

/// Belongs to one connection, so that no lock is needed to change it.
struct Player {
    room: String,
    score: u32,
    throws: u32,
}

struct Game;

impl Handler for Game {
    type Data = Player;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<Player>, Rejection> {
        let room = handshake.param("room").unwrap_or_default().to_owned();
        Ok(Accept::new(Player { room, score: 0, throws: 0 }))
    }

    async fn message(&self, session: &mut Session<Player>, message: Message<'_>) -> Result {
        session.data.throws += 1;
        // What a player types wrong is no failure of the handler: it is answered.
        match message.as_text().and_then(|text| text.trim().parse::<u32>().ok()) {
            Some(6) => {
                session.data.score += 6;
                session.send("a six: throw again");
            }
            Some(points @ 1..=5) => {
                session.data.score += points;
                let Player { room, score, throws } = &session.data;
                session.send(format!("{room}: {score} points after {throws} throws"));
            }
            _ => drop(session.send("a die shows 1 to 6")),
        }
        Ok(())
    }

    async fn close(&self, session: &mut Session<Player>, _: &Close) -> Result {
        println!("{} left {} with {}", session.id(), session.data.room, session.data.score);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new().ws("/game/{room}", Game).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
