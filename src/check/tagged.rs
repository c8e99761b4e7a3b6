//! The forecast for mail by a listener with terms of its own, and for mail that asks for REQUIRETLS (RFC 8689): the same check at
//! the level of such mail, with the keyword.

use serde::Serialize;

use super::checker::{CheckTarget, Checker, Connections, DomainCheck};
use super::forecast::Forecast;
use super::report::{RefusalReport, refusal};
use super::verdict::MailVerdict;
use crate::config::{Address, Config, Listener};
use crate::name::Name;
use crate::policy::{ListenerMail, Mode};
use crate::requiretls::Tag;
use crate::terms::MailTerms;

/// The check by the terms of a mail.
pub(crate) struct CheckByTerms {
    pub(crate) check: DomainCheck,
    /// The refusal at its level, for mail that goes at a lower one.
    pub(crate) would: Option<RefusalReport>,
}

impl Checker {
    /// Checks a domain at the level of a mail, and at the lower one of its field `TLS-Required: No` where that level refuses it.
    pub(crate) async fn check_by(&self, terms: MailTerms, domain: &Name, target: CheckTarget<'_>) -> CheckByTerms {
        let check = self.check(domain, target).await;
        match terms.waiver(target.level, Mode::Enforce).instead_of(target.level) {
            Some(level) if check.is_waived() => CheckByTerms {
                would: refusal(&check),
                check: self.check(domain, CheckTarget { level, ..target }).await,
            },
            Some(_) | None => CheckByTerms { check, would: None },
        }
    }
}

/// The listener of the configuration at this address.
///
/// # Errors
/// There is none.
pub(crate) fn listener(config: &Config, address: &Address) -> Result<Listener, String> {
    let listeners = &config.listener;
    listeners.iter().find(|listener| listener.address == *address).cloned().ok_or_else(|| {
        let all: Vec<_> = listeners.iter().map(|listener| listener.address.to_string()).collect();
        format!("the configuration has no listener at {address}; it has: {}", all.join(", "))
    })
}

/// The listener by which the mail comes, and its terms.
#[derive(Debug, Serialize)]
pub(crate) struct ListenerReport {
    address: String,
    level: Option<&'static str>,
    require_tls: Option<&'static str>,
    tls_required_no: Option<&'static str>,
    /// The refusal at the level of the mail, where its field lets it go on.
    would: Option<RefusalReport>,
}

impl ListenerReport {
    pub(crate) fn of(listener: &Listener, would: Option<RefusalReport>) -> Self {
        let terms = listener.terms();
        Self {
            address: listener.address.to_string(),
            level: terms.floor.map(|floor| floor.level().as_str()),
            require_tls: terms.tag.map(Tag::as_str),
            tls_required_no: match terms.takes {
                ListenerMail::Any => None,
                ListenerMail::TlsRequiredNo => Some("only"),
            },
            would,
        }
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        let keys =
            [("level", self.level), ("require_tls", self.require_tls), ("tls_required_no", self.tls_required_no)];
        let set: Vec<_> = keys.iter().filter_map(|(key, value)| Some(format!("{key} \"{}\"", (*value)?))).collect();
        let terms = if set.is_empty() { "no terms of its own".to_owned() } else { set.join(", ") };
        let would = self.would.as_ref().map_or(String::new(), |no| {
            format!("; without the field mail would be refused, {} ({}: {})", no.code, no.reason, no.text)
        });
        format!("mail by the listener {}: {terms}{would}", self.address)
    }
}

/// The outcome for mail with REQUIRETLS.
#[derive(Debug, Serialize)]
pub(crate) struct RequireTlsReport {
    /// `delivered`, `deferred` or `rejected`.
    pub(crate) verdict: &'static str,
    /// The host that it would go to.
    pub(crate) exchange: Option<String>,
    /// Why it would be refused.
    pub(crate) refusal: Option<RefusalReport>,
}

impl RequireTlsReport {
    /// By a check for such mail; none without connections, since the keyword is told under TLS alone.
    pub(crate) fn of(check: &DomainCheck) -> Option<Self> {
        if check.connections == Connections::None {
            return None;
        }
        if let Forecast::Delivered(exchange, _) = check.forecast() {
            let exchange = Some(exchange.name.to_string());
            return Some(Self { verdict: "delivered", exchange, refusal: None });
        }
        Some(Self { verdict: MailVerdict::of(check).as_str(), exchange: None, refusal: Some(refusal(check)?) })
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        const MAIL: &str = "mail with REQUIRETLS";
        match (&self.exchange, &self.refusal) {
            (Some(exchange), _) => format!("{MAIL}: would go to {exchange}"),
            (None, Some(no)) if self.verdict == "rejected" => {
                format!("{MAIL}: would be refused, {} ({}: {})", no.code, no.reason, no.text)
            }
            (None, Some(no)) => format!("{MAIL}: would be deferred, {} ({}: {})", no.code, no.reason, no.text),
            (None, None) => format!("{MAIL}: {}", self.verdict),
        }
    }
}
