//! The body of an answer, which takes the request's record along.
//!
//! The record is written when the body has ended or is dropped, so the line in the log says what
//! was really sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use http_body::{Frame, SizeHint};

use super::record::Record;
use super::seats::UnderWay;
use super::send::Cut;

pub(super) struct Body {
    content: Content,
    record: Option<Record>,
    under_way: Option<UnderWay>,
}

enum Content {
    /// All of it has been handed out, or there never was any.
    Nothing,
    Whole(Bytes),
    Stream(BoxStream<'static, Result<Bytes, Cut>>),
}

impl Body {
    pub(super) fn empty() -> Body {
        Content::Nothing.into()
    }

    pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
        Content::Whole(bytes.into()).into()
    }

    pub(super) fn stream(stream: impl Stream<Item = Result<Bytes, Cut>> + Send + 'static) -> Body {
        Content::Stream(stream.boxed()).into()
    }

    pub(super) fn accompany(mut self, mut record: Record) -> Body {
        record.expects_body(!matches!(self.content, Content::Nothing));
        self.record = Some(record);
        self
    }

    /// The request is under way as long as this is.
    pub(super) fn until_sent(mut self, under_way: UnderWay) -> Body {
        self.under_way = Some(under_way);
        self
    }

    fn hand_out(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(record) = &mut self.record {
            record.sent(bytes.len());
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn finish(&mut self) {
        self.content = Content::Nothing;
        if let Some(mut record) = self.record.take() {
            record.completed();
        }
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Body {
        Body {
            content,
            record: None,
            under_way: None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        match &mut this.content {
            Content::Nothing => Poll::Ready(None),
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                let polled = this.hand_out(bytes);
                this.finish();
                polled
            }
            Content::Stream(stream) => match ready!(stream.poll_next_unpin(cx)) {
                Some(Ok(bytes)) => this.hand_out(bytes),
                Some(Err(cut)) => {
                    this.content = Content::Nothing;
                    if let Some(mut record) = this.record.take() {
                        record.cut(&cut);
                    }
                    Poll::Ready(Some(Err(cut)))
                }
                None => {
                    this.finish();
                    Poll::Ready(None)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Nothing => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
