//! Whether mail that comes now has a chance, for `/readyz`.

use time::OffsetDateTime;

use super::answers::Phase;
use crate::dns::NegativeTrustAnchors;
use crate::dns::selftest::{FALLEN_BACK, Health, ServerHealth, ServerState};
use crate::policy::Mode;
use crate::rules::Rules;

/// The line that each status answer repeats in observe mode.
const OBSERVING: &str = "mode: observe: nothing is enforced but for listeners with a level and mail that asks for REQUIRETLS, mail goes unverified or in cleartext where it has to";

/// Whether mail that comes now has a chance, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    /// A line for each thing that was looked at.
    pub(super) text: String,
}

/// A line for each rule that has ended and for each negative trust anchor. They are no reason to be taken out of service: the mail
/// of the domain of a rule goes by the next rule, or by the default.
pub(super) fn rules_and_anchors(rules: &Rules, negative: &NegativeTrustAnchors) -> Vec<String> {
    let today = OffsetDateTime::now_utc().date();
    let rules = rules.ended(today).map(|rule| format!("rule for {}: has ended, and is left out", rule.domains));
    let negative = negative.0.iter().map(|anchor| match anchor.until.is_over(today) {
        true => format!("negative trust anchor for {}: has ended, and is left out", anchor.zone),
        false => {
            format!("negative trust anchor for {}: nothing below it is validated until {}", anchor.zone, anchor.until)
        }
    });
    rules.chain(negative).collect()
}

/// Whether mail has a chance, by the facts.
pub(super) fn readiness(phase: Phase, mode: Mode, health: &Health, rules_and_anchors: Vec<String>) -> Readiness {
    let mut lines = Vec::new();
    match mode {
        Mode::Enforce => {}
        Mode::Observe => lines.push(OBSERVING.to_owned()),
    }
    let serving = match phase {
        Phase::Starting => {
            lines.push("listeners: not open yet".to_owned());
            false
        }
        Phase::Serving => {
            lines.push("listeners: open".to_owned());
            true
        }
        Phase::Draining => {
            lines.push("listeners: closed, danelaw is stopping".to_owned());
            false
        }
    };
    lines.extend(resolvers(health));
    lines.extend(rules_and_anchors);
    let ready = serving && health.resolves();
    lines.insert(0, if ready { "ready" } else { "not ready" }.to_owned());
    Readiness { ready, text: lines.join("\n") + "\n" }
}

/// A line for each resolver, for the fallback, and for the state of all.
fn resolvers(health: &Health) -> Vec<String> {
    let line = |server: &ServerHealth| {
        let how = match &server.state {
            ServerState::Untested => "not tested yet".to_owned(),
            ServerState::Good => match &server.no_tcp {
                None => "passes the self-test".to_owned(),
                Some(why) => format!("passes the self-test, but not over TCP: {why}"),
            },
            ServerState::Failed(why) => format!("fails the self-test: {why}"),
        };
        format!("resolver {}: {how}", server.server)
    };
    let mut lines: Vec<String> = health.servers.iter().map(line).collect();
    if health.falls_back() {
        lines.push(FALLEN_BACK.to_owned());
    }
    if let Some(ServerState::Failed(why)) = health.fallback.as_ref().map(|fallback| &fallback.state) {
        lines.push(format!("fallback: fails the self-test: {why}"));
    }
    if !health.resolves() {
        lines.push("no resolver passes the self-test: all mail is deferred".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Date;

    use crate::dns::selftest::SelfTestFailure;
    use crate::dns::server::NameServer;
    use crate::dns::{FailureReason, NegativeTrustAnchor};
    use crate::last_day::LastDay;
    use crate::policy::Level;
    use crate::rules::Rule;

    #[test]
    fn ready_means_able_to_deliver() {
        let health = |states: &[ServerState]| Health {
            servers: states
                .iter()
                .zip(["192.0.2.1", "192.0.2.2"])
                .map(|(state, server)| ServerHealth {
                    server: server.parse().unwrap(),
                    state: state.clone(),
                    no_tcp: None,
                })
                .collect(),
            fallback: None,
        };
        let (good, ailing) = (ServerState::Good, ServerState::Failed(SelfTestFailure::StripsDnssec));
        for (phase, states, ready, says) in [
            (Phase::Serving, vec![good.clone()], true, "resolver 192.0.2.1:53: passes the self-test"),
            // One that passes is enough; the other is named.
            (
                Phase::Serving,
                vec![ailing.clone(), good.clone()],
                true,
                "resolver 192.0.2.1:53: fails the self-test: strips DNSSEC records",
            ),
            (Phase::Serving, vec![ailing.clone()], false, "no resolver passes the self-test: all mail is deferred"),
            (Phase::Serving, vec![ServerState::Untested], false, "resolver 192.0.2.1:53: not tested yet"),
            (Phase::Starting, vec![good.clone()], false, "listeners: not open yet"),
            (Phase::Draining, vec![good.clone()], false, "listeners: closed, danelaw is stopping"),
        ] {
            let readiness = readiness(phase, Mode::Enforce, &health(&states), Vec::new());
            assert_eq!(readiness.ready, ready, "{phase:?} {states:?}");
            assert!(readiness.text.lines().any(|line| line == says), "{says} in {}", readiness.text);
            assert_eq!(readiness.text.lines().next(), Some(if ready { "ready" } else { "not ready" }));
            assert!(!readiness.text.contains(OBSERVING));
        }
        let own = |state| Some(ServerHealth { server: NameServer::RECURSION, state, no_tcp: None });
        let no_root =
            SelfTestFailure::NoRoot(FailureReason::Network("cannot reach any root server on port 53".to_owned()));
        for (state, fallback, ready, says) in [
            (ailing.clone(), own(good.clone()), true, FALLEN_BACK),
            (
                ailing.clone(),
                own(ServerState::Untested),
                false,
                "no resolver passes the self-test: all mail is deferred",
            ),
            (
                ailing.clone(),
                own(ServerState::Failed(no_root)),
                false,
                "fallback: fails the self-test: the name server could not be reached (cannot reach any root server on port 53)",
            ),
        ] {
            let health = Health { fallback, ..health(&[state]) };
            let readiness = readiness(Phase::Serving, Mode::Enforce, &health, Vec::new());
            assert_eq!(readiness.ready, ready, "{says}");
            assert!(readiness.text.lines().any(|line| line == says), "{says} in {}", readiness.text);
        }
        let mut without_tcp = health(&[ServerState::Good]);
        without_tcp.servers[0].no_tcp = Some(FailureReason::Timeout);
        let readiness_without_tcp = readiness(Phase::Serving, Mode::Enforce, &without_tcp, Vec::new());
        assert!(readiness_without_tcp.ready, "it serves all mail but that with large answers");
        let says = "resolver 192.0.2.1:53: passes the self-test, but not over TCP: no answer within the time limit";
        assert!(readiness_without_tcp.text.lines().any(|line| line == says), "{}", readiness_without_tcp.text);
        let observing = readiness(Phase::Serving, Mode::Observe, &health(&[ServerState::Good]), Vec::new());
        assert!(observing.ready && observing.text.contains(OBSERVING));
        let (domains, level, past) = ("a.test".parse().unwrap(), Level::Encrypt, Date::MIN);
        let rule = Rule {
            domains,
            level,
            next_hop: None,
            sts: crate::rules::StsByRule::Heeded,
            reason: None,
            until: Some(past),
        };
        let rules = Rules::new(Level::Encrypt, vec![rule]);
        let negative = [("b.test", past), ("c.test", Date::MAX)].map(|(zone, until)| NegativeTrustAnchor {
            zone: zone.parse().unwrap(),
            reason: "x".to_owned(),
            until: LastDay(until),
        });
        let listed = rules_and_anchors(&rules, &NegativeTrustAnchors(negative.into()));
        let readiness = readiness(Phase::Serving, Mode::Enforce, &health(&[ServerState::Good]), listed);
        let lines = "\nrule for a.test: has ended, and is left out\n\
                     negative trust anchor for b.test: has ended, and is left out\n\
                     negative trust anchor for c.test: nothing below it is validated until 9999-12-31\n";
        assert!(readiness.ready && readiness.text.ends_with(lines), "{}", readiness.text);
    }
}
