//! Changes of presence as messages to the members of the room.

use std::sync::Arc;

use sockeye_proto::Message;
use tokio::runtime::Handle;

use super::{PresenceDiff, state::State};
use crate::{
    Compress,
    hub::{Hub, topic::Kind},
};

/// Makes a message of a change.
pub(crate) type Encode = Arc<dyn Fn(&PresenceDiff) -> Option<Message<'static>> + Send + Sync>;

/// Announces what has changed at the end of the window, and what changes meanwhile at the end of the
/// next: one after the other.
pub(crate) fn schedule(hub: &Hub, state: Arc<State>) {
    let scheduled = Scheduled { hub: hub.clone(), state, is_over: false };
    // Without a runtime nobody waits, and the next change is told with this one.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(scheduled.run());
    }
}

/// The task that waits for the end of the window.
struct Scheduled {
    hub: Hub,
    state: Arc<State>,
    /// Nobody counts on it any more.
    is_over: bool,
}

impl Scheduled {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(self.hub.options().announce_window).await;
            // The members first: what is told is not for those of another room of the name, later.
            let room = self.hub.find(Kind::Room, self.state.room());
            let encode = room.as_ref().and_then(|room| room.encode());
            let (Some(room), Some(encode)) = (room, encode) else {
                self.state.end_announcement(false);
                break;
            };
            let Some(diff) = self.state.take_announcement() else { break };
            if let Some(message) = encode(&diff) {
                room.publish(&message, Compress::Auto, None);
            }
        }
        self.is_over = true;
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        if !self.is_over {
            // Its runtime has ended, or `encode` has panicked.
            self.state.end_announcement(true);
        }
        self.state.vanish_if_unused(&self.hub);
    }
}
