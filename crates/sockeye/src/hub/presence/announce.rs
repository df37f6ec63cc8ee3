//! Changes of presence as messages to the members of the room.

use std::{fmt, sync::Arc};

use indexmap::IndexMap;
use sockeye_proto::Message;
use tokio::runtime::Handle;

use super::{PresenceDiff, PresenceKey, Present, state::State};
use crate::{
    Compress,
    hub::{Hub, topic::Kind},
};

/// Makes a message of a change.
pub(crate) type Encode = Arc<dyn Fn(&PresenceDiff) -> Option<Message<'static>> + Send + Sync>;

/// What the members of a room are still to be told.
pub(crate) struct Announcing {
    pub(crate) encode: Encode,
    /// Who has changed since the last announcement, and what was known of them then.
    pub(crate) pending: IndexMap<PresenceKey, Option<Present>>,
    /// Somebody waits for the end of the window.
    pub(crate) is_scheduled: bool,
}

impl Announcing {
    pub(crate) fn new(encode: Encode) -> Self {
        Self { encode, pending: IndexMap::new(), is_scheduled: false }
    }
}

impl fmt::Debug for Announcing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcing").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// Announces what has changed at the end of the window.
pub(crate) fn schedule(hub: &Hub, state: Arc<State>) {
    let scheduled = Scheduled { state, is_due: false };
    let Ok(runtime) = Handle::try_current() else { return };
    let hub = hub.clone();
    runtime.spawn(async move {
        let mut scheduled = scheduled;
        tokio::time::sleep(hub.options().announce_window).await;
        scheduled.is_due = true;
        let Some((encode, diff)) = scheduled.state.take_announcement(true) else { return };
        if let Some(message) = encode(&diff) {
            let room = scheduled.state.room();
            hub.publish_to(Kind::Room, room, &message, Compress::Auto, None);
        }
    });
}

/// Dropped too early, with its runtime, it leaves the announcement to the next change.
struct Scheduled {
    state: Arc<State>,
    is_due: bool,
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        if !self.is_due {
            self.state.take_announcement(false);
        }
    }
}
