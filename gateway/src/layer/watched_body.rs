//! A response's body that holds something until it ends, and tells how it went.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus::IntCounter;

use crate::s3::encode::ResponseBody;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BodyEnd {
    pub(super) bytes: u64,
    /// Every byte was handed over. Otherwise the client went away, or the body failed.
    pub(super) complete: bool,
    /// The body failed: what it was to give could not be had.
    pub(super) failed: bool,
}

/// Calls `at_end` once: when the body has ended, failed or been dropped. What the closure owns lives as long.
pub(super) struct WatchedBody<F: FnOnce(BodyEnd)> {
    inner: ResponseBody,
    at_end: Option<F>,
    bytes: u64,
    total: Option<IntCounter>,
    announced: Option<u64>,
}

impl<F: FnOnce(BodyEnd)> WatchedBody<F> {
    pub(super) fn new(inner: ResponseBody, at_end: F) -> Self {
        Self {
            inner,
            at_end: Some(at_end),
            bytes: 0,
            total: None,
            announced: None,
        }
    }

    /// How many bytes were announced to the client. A server that has sent so many does not ask for the end.
    pub(super) fn announced(mut self, bytes: Option<u64>) -> Self {
        self.announced = bytes;
        self
    }

    /// Adds the bytes to `total` while they flow.
    pub(super) fn counted(mut self, total: IntCounter) -> Self {
        self.total = Some(total);
        self
    }

    fn end(&mut self, complete: bool, failed: bool) {
        if let Some(at_end) = self.at_end.take() {
            at_end(BodyEnd {
                bytes: self.bytes,
                complete,
                failed,
            });
        }
    }
}

impl<F: FnOnce(BodyEnd) + Unpin> Body for WatchedBody<F> {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.bytes += bytes;
                if let Some(total) = &self.total {
                    total.inc_by(bytes);
                }
                // hyper does not poll again what says that it has ended.
                if self.inner.is_end_stream() {
                    self.end(true, false);
                }
            }
            Some(Err(_)) => self.end(false, true),
            None => self.end(true, false),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<F: FnOnce(BodyEnd)> Drop for WatchedBody<F> {
    fn drop(&mut self) {
        // A body that is never polled, to HEAD for one, has nothing more to say if it is at its end, or if its
        // announced bytes are none of the answer.
        let complete = self.inner.is_end_stream() || self.announced == Some(self.bytes);
        self.end(complete, false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// Reads `frames` of a body of two frames, then drops it.
    async fn end_after(frames: usize, announced: Option<u64>) -> BodyEnd {
        let two = stream::iter(["ab", "cde"].map(|data| Ok(Frame::data(Bytes::from(data)))));
        let ended = Arc::new(Mutex::new(None));
        let told = ended.clone();
        let body = WatchedBody::new(ResponseBody::new(StreamBody::new(two)), move |end| {
            assert_eq!(told.lock().unwrap().replace(end), None, "told twice");
        });
        let mut body = body.announced(announced);
        for _ in 0..frames {
            drop(body.frame().await);
        }
        drop(body);
        let end = ended.lock().unwrap().take();
        end.expect("told")
    }

    #[tokio::test]
    async fn a_body_is_complete_when_it_ended_or_when_all_that_was_announced_is_out() {
        let end = |bytes, complete| BodyEnd {
            bytes,
            complete,
            failed: false,
        };
        assert_eq!(end_after(1, Some(5)).await, end(2, false));
        assert_eq!(end_after(2, Some(5)).await, end(5, true));
        assert_eq!(end_after(2, None).await, end(5, false));
        assert_eq!(end_after(3, None).await, end(5, true));
    }
}
