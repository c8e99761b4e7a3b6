//! The domains that mail went to, and one of them.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::super::super::domain::{COPY_WORDS, DomainView};
use super::super::super::status;
use super::super::DomainsShown;
use super::findings::finding;
use super::{AdminPage, scrolling};
use crate::excerpt;
use crate::name::Name;
use crate::report::recent::{ListedDomains, RecentDomain, VerdictCounts};
use crate::watch::looked::{LookedDomain, LookedHost};

use super::MAX_TEXT;

/// Some of the domains.
pub(in crate::admin) fn domains(shown: DomainsShown, listed: &ListedDomains, now: OffsetDateTime) -> AdminPage {
    let ListedDomains { rows, more } = listed;
    let last = rows.last().filter(|_| *more).map(|(name, _)| name);
    let body = html! {
        p {
            @match shown {
                DomainsShown::Failing => { "Those whose last mail was refused. " a href="/domains?state=all" { "All domains" } }
                DomainsShown::All => { "All that are remembered since danelaw started. " a href="/domains" { "Those whose last mail was refused" } }
            }
        }
        @if rows.is_empty() { p { "None." } }
        (table_of(rows, now))
        @if let Some(last) = last { p { a href=(format!("/domains?state={}&after={last}", shown.as_str())) { "More" } } }
    };
    AdminPage::still("Domains", body)
}

/// The knowledge of one domain.
pub(in crate::admin) fn domain(view: &DomainView) -> AdminPage {
    let DomainView { name, now, last, looked, findings, rule_to_copy, .. } = view;
    let reason = last.as_ref().and_then(|last| last.reason);
    let body = html! {
        @match last {
            Some(last) => {
                (table_of(&[(name.clone(), last.clone())], *now))
                dl { @for (title, value) in view.mail() { dt { (title) } dd { (value) } } }
                @if let Some(reason) = reason { p { a href=(format!("/refusals#{reason}")) { "Cause and remedy" } } }
            }
            None => { p { "No mail to this domain since danelaw has started, or not for a long time." } }
        }
        h2 { "Rule" }
        p { (view.rule()) }
        h2 { "Hosts" }
        @match (looked, view.look()) {
            (Some(looked), Some(at)) => { p { "The watch has " (at) "." } (hosts(looked)) }
            _ => { p { "This danelaw has no look of the watch at them." } }
        }
        @if !findings.is_empty() { h2 { "Findings of the watch" } @for row in findings { (finding(row, *now)) } }
        h2 { "Commands" }
        pre { @for command in view.commands() { (command) "\n" } }
        @if let Some(rule) = rule_to_copy { h2 { "A rule to copy" } p { "This is " (COPY_WORDS) "." } pre { (rule) } }
    };
    AdminPage::still(name.as_str(), body)
}

fn hosts(LookedDomain { sts, hosts, more, .. }: &LookedDomain) -> Markup {
    html! {
        @if let Some(sts) = sts { p { "MTA-STS policy: " (excerpt::cut(sts, MAX_TEXT)) } }
        ul { @for host in hosts { (host_line(host)) } @if *more > 0 { li { "and " (more) " more" } } }
    }
}

fn host_line(LookedHost { host, preference, dane, addresses }: &LookedHost) -> Markup {
    html! {
        li {
            bdi { (host) } " (preference " (preference) "): " (dane)
            @if !addresses.is_empty() { ul { @for address in addresses { li { (excerpt::cut(address, MAX_TEXT)) } } } }
        }
    }
}

pub(super) fn table_of(rows: &[(Name, RecentDomain)], now: OffsetDateTime) -> Markup {
    let table = html! {
        table {
            thead { tr { @for title in ["domain", "last mail", "so for", "policy", "delivered / deferred / rejected", "attempt"] { th scope="col" { (title) } } } }
            tbody { @for (name, domain) in rows { (row_of(name, domain, now)) } }
        }
    };
    html! {
        @if !rows.is_empty() { (scrolling("Domains", &table)) }
    }
}

fn row_of(name: &Name, domain: &RecentDomain, now: OffsetDateTime) -> Markup {
    let VerdictCounts { delivered, deferred, rejected, .. } = domain.counts;
    html! {
        tr {
            th scope="row" { a href=(format!("/domains/{name}")) { bdi { (name) } } }
            td class=(if domain.reason.is_some() { "bad" } else { "good" }) { (status::verdict(domain)) }
            td { (status::ago(domain.since, now)) }
            td { (domain.remote.as_ref().map_or("none", |(_, policy)| policy)) }
            td { (delivered) " / " (deferred) " / " (rejected) }
            td { @if domain.reason.is_some() { a href=(format!("/explain/{}", domain.id)) { (domain.id) } } }
        }
    }
}
