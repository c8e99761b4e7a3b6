//! Programs without a queue, by the libraries that they send with, each with its settings in `config/clients/others.md`. A mail
//! that danelaw answers with a 451 is lost, unless a Postfix with the lines of that page takes it.

use std::net::SocketAddr;

use serde_json::{Map, Value};

use crate::case::{BOB, Case, Certificate, Exchange, MX1};
use crate::command::{eventually, run};
use crate::lab::Lab;
use crate::root::Root;

const PAGE: &str = include_str!("../../config/clients/others.md");

/// A library, and the script that makes its settings out of a program's own.
struct Library {
    package: &'static str,
    script: &'static str,
    /// Calls the script in `/tmp/script`.
    command: &'static str,
    /// The programs that send with it.
    programs: &'static [&'static str],
    /// Words of the error that it makes of danelaw's 451.
    hears: &'static str,
}

const ACTION_MAILER: Library = Library {
    package: "ruby-actionmailer",
    script: include_str!("programs/rails.rb"),
    command: "exec ruby /tmp/script \"$@\"",
    programs: &["GitLab", "Mastodon", "Discourse"],
    hears: "Net::SMTPServerBusy: 451 4.7.5",
};

const SYMFONY: Library = Library {
    package: "php-symfony-mailer",
    script: include_str!("programs/nextcloud.php"),
    // The installation would have switched these on.
    command: "exec php8.2 -d extension=mbstring -d extension=intl -d extension=iconv /tmp/script \"$@\"",
    programs: &["Nextcloud"],
    hears: "but got code \"451\", with message \"451 4.7.5",
};

/// The settings of a program in the table of the page, for a server at this address.
fn settings(program: &str, at: SocketAddr) -> Value {
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| {program} |"))).expect("a row of the page");
    let cell = row.split('|').nth(3).expect("the settings are the third cell");
    let settings = cell.split('`').skip(1).step_by(2).filter_map(|setting| {
        let (name, value) = ["=>", "=", ":"].iter().find_map(|sign| setting.split_once(sign))?;
        let value = value.trim().trim_matches(['\'', '"']);
        let value = match value {
            "localhost" | "172.17.0.1" => Value::from(at.ip().to_string()),
            "25" => Value::from(at.port()),
            "true" => Value::from(true),
            "false" => Value::from(false),
            _ => Value::from(value),
        };
        Some((name.trim().trim_matches('\'').to_owned(), value))
    });
    settings.collect::<Map<_, _>>().into()
}

/// The lines of the page for the Postfix in front that a lab's client does not have anyway.
fn postfix() -> &'static str {
    const TLS: &str = "smtpd_tls_security_level = none";
    assert!(PAGE.contains(&format!("\n{TLS}\n")));
    TLS
}

impl Library {
    fn root(&self) -> Root {
        let root = Root::of(self.package);
        root.write("/tmp/script", self.script);
        root
    }

    /// Sends a mail of each program to Bob. Returns the words of each: its name, and `sent` or the error that it hears.
    fn send(&self, root: &Root, to: SocketAddr) -> Vec<String> {
        let settings: Vec<_> = self.programs.iter().map(|program| settings(program, to).to_string()).collect();
        let programs = self.programs.iter().zip(&settings).flat_map(|(program, settings)| [program, settings.as_str()]);
        let arguments: Vec<_> = std::iter::once(BOB).chain(programs).collect();
        let said = run(&mut root.shell(self.command, &arguments));
        let said: Vec<_> = said.lines().map(str::to_owned).collect();
        assert!(
            self.programs.iter().zip(&said).all(|(program, said)| said.starts_with(&format!("{program}: "))),
            "{said:?}"
        );
        assert_eq!(said.len(), self.programs.len(), "{said:?}");
        said
    }

    /// Asserts for each program: its mail is lost at a 451, and it arrives by Postfix once the fault is mended. Without a fault its
    /// mail arrives at once.
    #[track_caller]
    fn needs_a_queue_in_front(&self) {
        let client = Box::leak(Box::new([postfix()]));
        let broken = Exchange { certificate: Certificate::NotYet, ..MX1 };
        let lab = Lab::start(&Case { client, ..Case::of([broken]) });
        let root = self.root();
        let are_sent = |said: &[String]| said.iter().all(|said| said.ends_with(": sent"));
        let said = self.send(&root, lab.danelaw_address());
        assert!(said.iter().all(|said| said.contains(self.hears)), "{said:?}");
        let said = self.send(&root, lab.client.address);
        assert!(are_sent(&said), "{said:?}");
        let count = self.programs.len();
        eventually("the mails in the queue", || (lab.client.queue().lines().count() == count).then_some(()));
        lab.mend_certificate(&MX1);
        lab.client.try_again();
        // A message leaves the queue before the MX host has stored it.
        eventually("the mails of the queue", || (lab.messages(&MX1).len() == count).then_some(()));
        lab.client.await_empty_queue();
        let said = self.send(&root, lab.danelaw_address());
        assert!(are_sent(&said), "{said:?}");
        // No other one comes: the mails that heard the 451 are lost.
        let messages = eventually("all mails", || Some(lab.messages(&MX1)).filter(|all| all.len() == 2 * count));
        assert!(messages.iter().all(|mail| String::from_utf8_lossy(mail).contains("Subject: A note")));
    }
}

#[test]
fn gitlab_mastodon_and_discourse() {
    ACTION_MAILER.needs_a_queue_in_front();
}

#[test]
fn nextcloud() {
    SYMFONY.needs_a_queue_in_front();
}

/// The library of Nextcloud checks the certificate of each server that offers STARTTLS, and no public CA
/// has issued that of Debian's Postfix. So the page's Postfix offers no STARTTLS.
#[test]
fn nextcloud_sends_nothing_to_a_postfix_whose_certificate_is_its_own() {
    let offers = &["smtpd_tls_security_level = may", "smtpd_tls_chain_files = {lab}/danelaw.pem"];
    let lab = Lab::start(&Case { client: offers, ..Case::default() });
    let said = SYMFONY.send(&SYMFONY.root(), lab.client.address);
    assert!(said[0].contains("certificate verify failed"), "{said:?}");
}
