//! Finds that an xDS server is stuck: it is asked for its health, and any answer shows that it lives, also that it has no such
//! service.
//!
//! A stream may be silent for days, TCP keep-alive is answered by the kernel, and servers in Go end connections with more
//! than one ping of HTTP/2 in five minutes. A call is no ping to them.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// The service whose health is asked for.
const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// How often a server is asked, and how long its answer may take.
#[derive(Clone, Copy, Debug)]
pub struct PulseTimes {
    pub interval: Duration,
    pub timeout: Duration,
}

/// What asks a server for its health.
pub struct Pulse(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Pulse {
    /// Asks over this connection.
    pub fn new(channel: Channel, times: PulseTimes) -> Self {
        Self(Box::pin(async move {
            let mut client = HealthClient::new(channel);
            loop {
                // The pause between two questions: nothing else tells that a silent server lives.
                sleep(times.interval).await;
                let request = HealthCheckRequest { service: SERVICE.to_owned() };
                // An error is an answer too. If the connection is lost, the stream tells.
                if timeout(times.timeout, client.check(request)).await.is_err() {
                    return;
                }
            }
        }))
    }

    /// Waits until there was no answer in time. It is cancel-safe, and must not be called again after that.
    pub async fn stopped(&mut self) {
        self.0.as_mut().await;
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::service::interceptor::InterceptedService;
    use tonic::transport::{Endpoint, Server};

    use super::*;

    #[tokio::test]
    async fn a_server_that_answers_with_errors_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        // It knows no service of this name.
        let (_, health) = tonic_health::server::health_reporter();
        let (asked, mut times_asked) = watch::channel(0);
        let health = InterceptedService::new(health, move |request| {
            asked.send_modify(|times| *times += 1);
            Ok(request)
        });
        let incoming = TcpListenerStream::new(listener);
        let serving =
            tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        let asked = HealthClient::new(channel.clone())
            .check(HealthCheckRequest { service: SERVICE.to_owned() })
            .await;
        assert_eq!(asked.unwrap_err().code(), tonic::Code::NotFound);
        let times =
            PulseTimes { interval: Duration::from_millis(1), timeout: Duration::from_secs(60) };
        let mut pulse = Pulse::new(channel, times);
        tokio::select! {
            () = pulse.stopped() => panic!("an error is an answer"),
            asked = times_asked.wait_for(|times| 10 < *times) => drop(asked.unwrap()),
        }
        serving.abort();
    }
}
