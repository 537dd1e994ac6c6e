//! gRPC over the runtime's socket: every answer has a size that it may have and a time in which it has to come.

use std::{path::Path, time::Duration};

use http::uri::PathAndQuery;
use prost::Message;
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::api::{
    Container, EVENTS, Empty, Event, LIST_CONTAINERS, LIST_SANDBOXES, ListContainersResponse, ListRequest,
    ListSandboxesResponse, Sandbox, VERSION, VersionResponse,
};

/// The largest answer that is read: the same bound as the kubelet's.
const ANSWER_MAX: usize = 16 << 20;
/// How long a peer may keep quiet about a sign of life on an open stream, and how often one is asked for.
const LIFE_SIGN: Duration = Duration::from_secs(30);

/// Why there are no names from the runtime.
#[derive(Debug, Error)]
pub enum CriError {
    #[error("there is no socket at any of the usual places; identity.cri_socket can name another")]
    NoSocket,
    #[error("can't connect: is the container runtime running, and may the agent's user open its socket?")]
    Connect(#[source] tonic::transport::Error),
    #[error("no answer to {call} within {} s: the container runtime hangs or is overloaded", .patience.as_secs())]
    Silent { call: &'static str, patience: Duration },
    #[error("{call} failed: {} ({})", .status.message(), .status.code())]
    Refused { call: &'static str, status: Box<Status> },
    #[error("the stream of events ended")]
    Ended,
}

impl CriError {
    /// Whether the peer doesn't know the call.
    pub(super) fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::Unimplemented)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Client {
    grpc: Grpc<Channel>,
    /// What an answer may take.
    patience: Duration,
}

impl Client {
    pub(super) async fn connect(socket: &Path, patience: Duration) -> Result<Self, CriError> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))
            .map_err(CriError::Connect)?
            .http2_keep_alive_interval(LIFE_SIGN)
            .keep_alive_timeout(LIFE_SIGN);
        let channel = timeout(patience, endpoint.connect())
            .await
            .map_err(|_| CriError::Silent { call: "connect", patience })?
            .map_err(CriError::Connect)?;
        Ok(Self { grpc: Grpc::new(channel).max_decoding_message_size(ANSWER_MAX), patience })
    }

    pub(super) async fn version(&mut self) -> Result<VersionResponse, CriError> {
        self.ask(VERSION, Empty {}).await
    }

    pub(super) async fn sandboxes(&mut self, which: ListRequest) -> Result<Vec<Sandbox>, CriError> {
        Ok(self.ask::<_, ListSandboxesResponse>(LIST_SANDBOXES, which).await?.items)
    }

    pub(super) async fn containers(&mut self, which: ListRequest) -> Result<Vec<Container>, CriError> {
        Ok(self.ask::<_, ListContainersResponse>(LIST_CONTAINERS, which).await?.containers)
    }

    /// Passes on what happens until the stream fails. A server may answer nothing at all before the first event.
    pub(super) async fn pump(mut self, into: mpsc::Sender<Event>) -> CriError {
        let refused =
            |status: Status| CriError::Refused { call: "GetContainerEvents", status: Box::new(status) };
        if let Err(error) = self.grpc.ready().await {
            return CriError::Connect(error);
        }
        let (path, codec) = (PathAndQuery::from_static(EVENTS), ProstCodec::<Empty, Event>::new());
        let mut stream = match self.grpc.server_streaming(Request::new(Empty {}), path, codec).await {
            Ok(response) => response.into_inner(),
            Err(status) => return refused(status),
        };
        loop {
            match stream.message().await {
                Ok(Some(event)) => {
                    if into.send(event).await.is_err() {
                        return CriError::Ended;
                    }
                }
                Ok(None) => return CriError::Ended,
                Err(status) => return refused(status),
            }
        }
    }

    async fn ask<Q: Message + 'static, A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        request: Q,
    ) -> Result<A, CriError> {
        let call = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let patience = self.patience;
        let answer = async {
            self.grpc.ready().await.map_err(CriError::Connect)?;
            let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::<Q, A>::new());
            let answer = self.grpc.unary(Request::new(request), path, codec).await;
            answer.map_err(|status| CriError::Refused { call, status: Box::new(status) })
        };
        let answer = timeout(patience, answer).await.map_err(|_| CriError::Silent { call, patience })??;
        Ok(answer.into_inner())
    }
}
