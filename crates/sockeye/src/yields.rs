//! Whether it pays to let others go first.

/// Whether letting the tasks that are ready run first has brought anything lately.
///
/// Where many talk at once it makes one write of many, at the cost of a further poll of the task; where
/// one message goes to many and nobody else speaks, there is nothing to wait for. So after a few that
/// brought nothing the next are left out, and twice as many each time: with 1000 subscribers to one
/// speaker, a delivery costs two thirds of the instructions.
#[derive(Debug, Default)]
pub(crate) struct Yields {
    /// What was queued when the last one began, the low bits of the position.
    position: u32,
    /// How many in a row have brought nothing.
    in_vain: u8,
    /// How many are still to be left out because of that.
    left_out: u8,
}

impl Yields {
    /// So many in a row may bring nothing before any is left out: among many who talk one does so now
    /// and then.
    const TOLERATED: u8 = 3;
    /// At most two to the power of this are left out before one is tried again.
    const MOST_LEFT_OUT: u8 = 4;

    /// Whether to yield now, at this position.
    pub(crate) fn begin(&mut self, position: u32) -> bool {
        self.position = position;
        let yields = self.left_out == 0;
        self.left_out = self.left_out.saturating_sub(1);
        yields
    }

    /// The tasks that were ready have run, and this is the position now.
    pub(crate) fn end(&mut self, position: u32) {
        if position == self.position {
            self.in_vain = (self.in_vain + 1).min(Self::TOLERATED + Self::MOST_LEFT_OUT);
            if let Some(doublings) = self.in_vain.checked_sub(Self::TOLERATED + 1) {
                self.left_out = 2 << doublings;
            }
        } else {
            self.in_vain = 0;
        }
    }
}
