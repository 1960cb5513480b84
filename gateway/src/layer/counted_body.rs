//! A request's body that tells how many bytes have come.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prometheus::IntCounter;

use super::record::RequestRecord;

/// Counts while the bytes flow, so that a long upload is seen while it lasts.
#[derive(Debug)]
pub struct CountedBody<B> {
    inner: B,
    record: RequestRecord,
    total: IntCounter,
}

impl<B> CountedBody<B> {
    /// Counts into `record` and into `total`.
    pub(super) fn new(inner: B, record: RequestRecord, total: IntCounter) -> Self {
        Self { inner, record, total }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.record.add_received_bytes(bytes);
            self.total.inc_by(bytes);
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
