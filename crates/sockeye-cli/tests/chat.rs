//! What does the chat tell the page, and what does it take from it?

#![cfg(unix)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod util;

use serde_json::{Value, json};
use sockeye::{CloseCode, OpCode, testing::frame};
use util::{
    Program,
    tcp::{Client, request},
};

/// A page that has said who it is.
struct Page {
    client: Client,
    hello: Value,
}

impl Page {
    async fn enter(program: &Program, address: &str) -> Self {
        let client = Client::open(program.addr, &format!("/chat/{address}")).await;
        let mut page = Self { client, hello: Value::Null };
        page.hello = page.recv("hello").await;
        page
    }

    /// The next message of this type; those of others are passed over.
    async fn recv(&mut self, kind: &str) -> Value {
        loop {
            let message: Value = serde_json::from_str(&self.client.recv_text().await).unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The closing handshake, whatever comes before its end.
    async fn leave(mut self) {
        self.client.send_close(CloseCode::NORMAL).await;
        while self.client.recv().await.is_some() {}
    }

    async fn send(&mut self, message: Value) {
        self.client.send_text(&message.to_string()).await;
    }
}

fn names(people: &Value) -> Vec<&str> {
    people.as_array().unwrap().iter().map(|person| person["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_members_of_a_room_see_each_other_come_talk_change_and_go() {
    let program = Program::serve(&[]).await;
    let mut ana = Page::enter(&program, "lobby?name=Ana&color=10").await;
    assert_eq!((&ana.hello["name"], &ana.hello["color"]), (&json!("Ana"), &json!(10)));
    assert_eq!(ana.hello["present"], json!([{"name": "Ana", "color": 10, "tabs": 1}]));

    let mut ben = Page::enter(&program, "lobby?name=Ben&color=370").await;
    assert_eq!(names(&ben.hello["present"]), ["Ana", "Ben"]);
    let came = json!({"name": "Ben", "color": 10, "tabs": 1});
    // Her own coming may be told with it, or before.
    while !ana.recv("presence").await["joined"].as_array().unwrap().contains(&came) {}

    ben.send(json!({"type": "say", "text": " hello\n", "ref": 7})).await;
    for page in [&mut ana, &mut ben] {
        let said = page.recv("message").await;
        assert_eq!((&said["name"], &said["text"]), (&json!("Ben"), &json!("hello")));
        assert!(said["time"].as_u64().is_some_and(|time| time > 1_700_000_000_000));
        assert_eq!(said["ref"], 7);
    }

    ben.send(json!({"type": "rename", "name": "  Ben   Lu ", "color": 20})).await;
    let you = ben.recv("you").await;
    assert_eq!((&you["name"], &you["color"]), (&json!("Ben Lu"), &json!(20)));
    let came = json!({"name": "Ben Lu", "color": 20, "tabs": 1, "was": "Ben"});
    while !ana.recv("presence").await["joined"].as_array().unwrap().contains(&came) {}

    ben.leave().await;
    while names(&ana.recv("presence").await["left"]) != ["Ben Lu"] {}
}

#[tokio::test]
async fn several_connections_of_a_name_count_once() {
    let program = Program::serve(&[]).await;
    let first = Page::enter(&program, "lobby?name=Ana").await;
    let second = Page::enter(&program, "lobby?name=%20Ana%20").await;
    assert_eq!(second.hello["present"], json!([{"name": "Ana", "color": 0, "tabs": 2}]));
    assert_ne!(first.hello["id"], second.hello["id"]);
}

#[tokio::test]
async fn a_bad_name_or_room_is_explained_and_ends_with_1008() {
    let program = Program::serve(&[]).await;
    let long = "x".repeat(33);
    for (address, expected) in [
        ("lobby".to_owned(), "a name has"),
        ("lobby?name=%20".to_owned(), "a name has"),
        ("lobby?name=a%0Ab".to_owned(), "a name has"),
        (format!("lobby?name={long}"), "a name has"),
        (format!("{long}?name=Ana"), "a room's name has"),
        ("%20?name=Ana".to_owned(), "a room's name has"),
    ] {
        let mut client = Client::open(program.addr, &format!("/chat/{address}")).await;
        let told: Value = serde_json::from_str(&client.recv_text().await).unwrap();
        assert_eq!(told["type"], "error", "{address}");
        assert!(told["text"].as_str().unwrap().starts_with(expected), "{address}: {told}");
        assert_eq!(client.recv_close().await, CloseCode::POLICY, "{address}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_explained_and_the_chat_goes_on() {
    let program = Program::serve(&[]).await;
    let mut ana = Page::enter(&program, "lobby?name=Ana").await;
    for message in [
        json!({"type": "say", "text": ""}),
        json!({"type": "say", "text": "x".repeat(2001)}),
        json!({"type": "rename", "name": "x".repeat(33), "color": 1}),
        json!({"type": "rename", "name": "Ana", "color": -1}),
        json!({"type": "shout", "text": "x".repeat(100_000)}),
        json!(["say"]),
        json!("hello"),
    ] {
        ana.send(message).await;
        let told = ana.recv("error").await;
        assert!(told["text"].as_str().is_some_and(|text| text.len() < 100), "{told}");
    }
    ana.client.send(frame(OpCode::Binary, true, b"hello")).await;
    ana.recv("error").await;
    ana.send(json!({"type": "say", "text": "x".repeat(2000)})).await;
    assert_eq!(ana.recv("message").await["name"], "Ana");
}

#[tokio::test]
async fn the_list_of_rooms_has_those_with_somebody_in_them() {
    let program = Program::serve(&[]).await;
    let mut ana = Page::enter(&program, "lobby?name=Ana").await;
    let ben = Page::enter(&program, "lobby?name=Ben").await;
    let cy = Page::enter(&program, "the%20den%2F2?name=Cy").await;
    let expected = json!([{"name": "lobby", "people": 2}, {"name": "the den/2", "people": 1}]);
    while ana.recv("rooms").await["rooms"] != expected {}
    let mut client = Client::connect(program.addr).await;
    client.send(request("/rooms", "")).await;
    let listed: Value = serde_json::from_str(&client.answer().await.body).unwrap();
    assert_eq!(listed, expected);
    ben.leave().await;
    cy.leave().await;
    while ana.recv("rooms").await["rooms"] != json!([{"name": "lobby", "people": 1}]) {}
}
