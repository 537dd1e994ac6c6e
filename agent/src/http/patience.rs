//! A connection that gives up on a peer that doesn't read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::visit::Visit;

/// A stream whose writes fail when none has got on for a while. hyper bounds how long a header may take, but not
/// how long an answer may: whoever asks and doesn't read would keep a connection for ever.
pub(super) struct Patient<S> {
    stream: S,
    /// Endless where the visit is to a stream.
    patience: Duration,
    visit: Arc<Visit>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, patience: Duration, visit: Arc<Visit>) -> Self {
        Self { stream, patience, visit, stalled: None }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.visit.stall(progress.is_pending());
        if progress.is_ready() || self.visit.may_be_slow() {
            self.stalled = None;
            return progress;
        }
        let patience = self.patience;
        let deadline = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judge(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS takes more than the peer does, and keeps it until it is flushed.
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, progress)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io, pin::Pin, sync::Arc, time::Duration};

    use tokio::{
        io::AsyncWrite,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::Patient;

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut patient = Patient::new(stream, Duration::from_millis(20), Arc::default());
        let fill = async {
            loop {
                if let Err(error) = poll_fn(|cx| Pin::new(&mut patient).poll_write(cx, &[0; 65536])).await {
                    return error.kind();
                }
            }
        };
        assert_eq!(timeout(Duration::from_secs(30), fill).await.unwrap(), io::ErrorKind::TimedOut);
    }
}
