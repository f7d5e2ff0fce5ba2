//! Sends a notification, or those of a group, by e-mail.

use std::net::SocketAddr;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::address::is_public;
use super::chat::{self, subject};
use super::http::ATTEMPT_TIMEOUT;
use super::send_error::SendError;
use super::wording::Wording;
use crate::alerts::book::Delivery;
use crate::policy::{MailReceiver, MailTls};

/// The domain of message ids.
const ID_DOMAIN: &str = "tollgate";

/// Sends a notification. `password` is that of the receiver's user, `ca` the authorities of the server's certificate in
/// PEM.
///
/// # Errors
/// If the server does not take the mail in time.
pub async fn send(
    receiver: &MailReceiver,
    (delivery, wording): (&Delivery, &Wording),
    (password, ca): (Option<String>, Option<&[u8]>),
) -> Result<(), SendError> {
    let mail = mail(receiver, delivery, wording)?;
    let late = |_| SendError::Late { timeout: ATTEMPT_TIMEOUT };
    let sending = async {
        let address = address(receiver).await?;
        let transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
                .port(address.port())
                .timeout(Some(ATTEMPT_TIMEOUT))
                .tls(tls(receiver, ca)?);
        let transport = match receiver.user.as_deref().zip(password) {
            Some((user, password)) => {
                transport.credentials(Credentials::new(user.to_owned(), password))
            }
            None => transport,
        };
        let sent = transport.build().send(mail).await;
        sent.map(drop).map_err(|error| SendError::Mail { reason: error.to_string() })
    };
    timeout(ATTEMPT_TIMEOUT, sending).await.map_err(late)?
}

/// Whether a text is a sender or receiver of mails.
pub fn is_mailbox(text: &str) -> bool {
    text.parse::<Mailbox>().is_ok()
}

/// The first permitted address of the server: the one that is connected to.
async fn address(receiver: &MailReceiver) -> Result<SocketAddr, SendError> {
    let reason = |error: std::io::Error| SendError::Connect { reason: error.to_string() };
    let found: Vec<SocketAddr> =
        lookup_host((&*receiver.host, receiver.port)).await.map_err(reason)?.collect();
    let is_permitted = |address: &&SocketAddr| receiver.allow_private || is_public(address.ip());
    match (found.iter().find(is_permitted), found.first()) {
        (Some(address), _) => Ok(*address),
        (None, Some(refused)) => Err(SendError::Private { address: refused.ip() }),
        (None, None) => Err(SendError::Address),
    }
}

/// The TLS of a connection, with the name of the server and not its address.
fn tls(receiver: &MailReceiver, ca: Option<&[u8]>) -> Result<Tls, SendError> {
    let mut parameters = TlsParameters::builder(receiver.host.to_string());
    if let Some(pem) = ca {
        let authority = Certificate::from_pem(pem).map_err(|_| SendError::Authorities)?;
        parameters =
            parameters.certificate_store(CertificateStore::None).add_root_certificate(authority);
    } else {
        parameters = parameters.certificate_store(CertificateStore::WebpkiRoots);
    }
    let parameters = parameters.build_rustls().map_err(|_| SendError::Authorities)?;
    Ok(match receiver.tls {
        MailTls::Starttls => Tls::Required(parameters),
        MailTls::Always => Tls::Wrapper(parameters),
        MailTls::Never => Tls::None,
    })
}

fn mail(
    receiver: &MailReceiver,
    delivery: &Delivery,
    wording: &Wording,
) -> Result<Message, SendError> {
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|_| SendError::Address);
    let mut mail = Message::builder()
        .from(mailbox(&receiver.from)?)
        // The same for every attempt, so that a reader can recognize a repetition.
        .message_id(Some(format!("<{}@{ID_DOMAIN}>", delivery.id)))
        .subject(subject(delivery, wording));
    for to in &receiver.to {
        mail = mail.to(mailbox(to)?);
    }
    let mail = mail.header(ContentType::TEXT_PLAIN).body(chat::mail(delivery, wording));
    mail.map_err(|error| SendError::Mail { reason: error.to_string() })
}
