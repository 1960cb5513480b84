//! Bodies that come in pieces, pause, and fail where a test wants them to.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{BodyError, BodyEvent, BodySource, BodySummary, ChecksumAlgorithm, ObjectBody};

/// A body that follows a script. Between any two events it is pending once, as a body from the network is.
#[derive(Debug)]
pub struct ScriptedBody {
    steps: VecDeque<Step>,
    announced: u64,
    rested: bool,
}

enum Step {
    Event(Result<BodyEvent, BodyError>),
    Wait(Option<oneshot::Sender<()>>, oneshot::Receiver<()>),
}

/// The test's side of a pause in a body.
#[derive(Debug)]
pub struct Gate {
    /// Resolves when the body has come to the pause.
    pub reached: oneshot::Receiver<()>,
    /// Sent to, lets the body go on; dropped, makes it fail.
    pub open: oneshot::Sender<()>,
}

/// The body's side of a [`Gate`].
#[derive(Debug)]
pub struct Pause(oneshot::Sender<()>, oneshot::Receiver<()>);

/// A pause for [`ScriptedBody::pause`], and its gate.
pub fn gate() -> (Pause, Gate) {
    let (here, reached) = oneshot::channel();
    let (open, opened) = oneshot::channel();
    (Pause(here, opened), Gate { reached, open })
}

impl ScriptedBody {
    /// A script without steps. `announced` is the length in bytes that the body claims to have.
    pub fn new(announced: u64) -> Self {
        Self {
            steps: VecDeque::new(),
            announced,
            rested: false,
        }
    }

    /// All of `bytes`, cut into pieces of `piece` bytes each.
    pub fn data(mut self, bytes: impl Into<Bytes>, piece: usize) -> Self {
        let mut rest = bytes.into();
        while !rest.is_empty() {
            let event = BodyEvent::Data(rest.split_to(piece.clamp(1, rest.len())));
            self.steps.push_back(Step::Event(Ok(event)));
        }
        self
    }

    /// Goes no further until the gate is opened.
    pub fn pause(mut self, pause: Pause) -> Self {
        self.steps.push_back(Step::Wait(Some(pause.0), pause.1));
        self
    }

    /// Fails here.
    pub fn fail(mut self) -> ObjectBody {
        self.steps.push_back(Step::Event(Err(failure())));
        ObjectBody::new(self.announced, self)
    }

    /// Ends well, as `summary` says.
    pub fn end(mut self, summary: BodySummary) -> ObjectBody {
        self.steps.push_back(Step::Event(Ok(BodyEvent::End(summary))));
        ObjectBody::new(self.announced, self)
    }

    /// A good body of `bytes` in pieces of `piece` bytes, with a checksum of `algorithm`.
    pub fn good(bytes: impl Into<Bytes>, piece: usize, algorithm: ChecksumAlgorithm) -> ObjectBody {
        let bytes = bytes.into();
        let summary = BodySummary::of(&bytes, algorithm);
        Self::new(summary.size).data(bytes, piece).end(summary)
    }
}

/// A body that fails after some of its bytes.
#[derive(Debug)]
pub struct FailingBody;

impl FailingBody {
    /// Announces all of `bytes`, gives the first `fail_at` of them, and fails; with all given, as for a wrong checksum.
    pub fn at(bytes: impl Into<Bytes>, fail_at: usize) -> ObjectBody {
        let bytes = bytes.into();
        ScriptedBody::new(bytes.len() as u64)
            .data(bytes.slice(..fail_at), 1024)
            .fail()
    }
}

fn failure() -> BodyError {
    BodyError("the body fails on purpose".into())
}

impl BodySource for ScriptedBody {
    fn poll_event(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<BodyEvent, BodyError>> {
        if !std::mem::replace(&mut self.rested, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while let Some(Step::Wait(here, opened)) = self.steps.front_mut() {
            if let Some(here) = here.take() {
                // A test that does not care has dropped its side.
                here.send(()).ok();
            }
            match Pin::new(opened).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(failure())),
                Poll::Ready(Ok(())) => self.steps.pop_front(),
            };
        }
        self.rested = false;
        match self.steps.pop_front() {
            Some(Step::Event(event)) => Poll::Ready(event),
            _ => panic!("a body was polled after its end"),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event(Ok(BodyEvent::Data(_))) => "Data",
            Self::Event(Ok(BodyEvent::End(_))) => "End",
            Self::Event(Err(_)) => "Fail",
            Self::Wait(..) => "Wait",
        })
    }
}
