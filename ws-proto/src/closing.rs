//! How a connection ends (RFC 6455 section 7): one state, one function, and the table that says it all.
//!
//! | state \ input | `Close` | `PeerClose` | `Fault` | `Eof` | `Deadline` |
//! |---|---|---|---|---|---|
//! | `Open` | `Sent`: send | `Done`: send, discard | `Failed`: send, discard | `Ended` | `Ended`: send |
//! | `Sent` | - | `Done`: discard | `Failed`: discard | `Ended` | `Ended` |
//! | `Done` | - | - | - | `Ended` | `Ended` |
//! | `Failed` | - | - | - | `Ended` | `Ended` |
//! | `Ended` | - | - | - | - | - |
//!
//! "send": a Close frame is queued. "discard": nothing that still comes is read as frames. In `Sent`, `Done` and
//! `Failed` the close deadline runs. In `Done` a server, and in `Failed` either side, shuts its half of TCP down
//! once its output is written; a client in `Done` leaves that to the server (section 7.1.1).

/// Where a connection stands on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    Open,
    /// Our Close frame is queued; the peer's is awaited.
    Sent,
    /// Both Close frames have passed; the end of TCP is awaited.
    Done,
    /// The peer broke the protocol and is told; the end of TCP is awaited.
    Failed,
    /// Nothing is awaited.
    Ended,
}

/// What moves a connection towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The application closes.
    Close,
    /// A Close frame arrived.
    PeerClose,
    /// The peer broke the protocol.
    Fault,
    /// The peer closed its half of TCP, or the socket failed, and nothing waits to be written.
    Eof,
    /// The close, pong or write deadline passed.
    Deadline,
}

/// What a transition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Queue a Close frame.
    pub(crate) send: bool,
    /// Drop what comes.
    pub(crate) discard: bool,
}

impl Closing {
    pub(crate) fn next(self, input: Input) -> (Self, Effects) {
        let effects = |send, discard| Effects { send, discard };
        match (self, input) {
            (Self::Open, Input::Close) => (Self::Sent, effects(true, false)),
            (Self::Open, Input::PeerClose) => (Self::Done, effects(true, true)),
            (Self::Open, Input::Fault) => (Self::Failed, effects(true, true)),
            (Self::Open, Input::Deadline) => (Self::Ended, effects(true, false)),
            (Self::Sent, Input::PeerClose) => (Self::Done, effects(false, true)),
            (Self::Sent, Input::Fault) => (Self::Failed, effects(false, true)),
            (Self::Ended, _)
            | (Self::Sent | Self::Done | Self::Failed, Input::Close)
            | (Self::Done | Self::Failed, Input::PeerClose | Input::Fault) => (self, effects(false, false)),
            (Self::Open | Self::Sent | Self::Done | Self::Failed, Input::Eof)
            | (Self::Sent | Self::Done | Self::Failed, Input::Deadline) => {
                (Self::Ended, effects(false, false))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Closing::*, *};

    /// The rows of the table above: for each state, the next state and the effects for each input.
    const TABLE: [(Closing, [(Closing, &str); 5]); 5] = [
        (
            Open,
            [(Sent, "send"), (Done, "send discard"), (Failed, "send discard"), (Ended, ""), (Ended, "send")],
        ),
        (Sent, [(Sent, ""), (Done, "discard"), (Failed, "discard"), (Ended, ""), (Ended, "")]),
        (Done, [(Done, ""), (Done, ""), (Done, ""), (Ended, ""), (Ended, "")]),
        (Failed, [(Failed, ""), (Failed, ""), (Failed, ""), (Ended, ""), (Ended, "")]),
        (Ended, [(Ended, ""), (Ended, ""), (Ended, ""), (Ended, ""), (Ended, "")]),
    ];

    #[test]
    fn s7_the_table_is_what_the_function_does() {
        let inputs = [Input::Close, Input::PeerClose, Input::Fault, Input::Eof, Input::Deadline];
        for (state, row) in TABLE {
            for (input, (next, effects)) in inputs.into_iter().zip(row) {
                let (got, Effects { send, discard }) = state.next(input);
                assert_eq!(got, next, "{state:?} {input:?}");
                assert_eq!(send, effects.contains("send"), "{state:?} {input:?}");
                assert_eq!(discard, effects.contains("discard"), "{state:?} {input:?}");
            }
        }
    }
}
