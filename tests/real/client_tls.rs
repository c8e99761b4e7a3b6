//! Real clients that speak TLS with danelaw: STARTTLS and implicit TLS, with and without a certificate of their own. Each of them
//! checks danelaw's certificate.

use std::net::SocketAddr;

use crate::case::{Case, Certificate, Exchange, MX1, Tlsa};
use crate::certs::Identity;
use crate::command::{eventually, output};
use crate::lab::Lab;
use crate::message::message;
use crate::program::Danelaw;
use crate::root::Root;

/// Lines of main.cf that check danelaw's certificate, and those of a test.
macro_rules! main_cf {
    ($($line:literal),*) => {
        &[
            "smtp_tls_security_level = secure",
            "smtp_tls_CAfile = {lab}/public-ca.pem",
            "smtp_tls_secure_cert_match = danelaw.client.test",
            $($line),*
        ]
    };
}

/// Asserts that a mail of Postfix goes through, and how danelaw logs its certificate.
#[track_caller]
fn postfix_delivers(client: &'static [&'static str], certificate: &str) {
    let lab = Lab::start(&Case { client, ..Case::default() });
    let outcome = lab.mail();
    assert_eq!(outcome.status, "sent", "{outcome:?}");
    lab.assert_message_at(&MX1);
    let fields = [("client_tls", "TLSv1.3"), ("client_certificate", certificate), ("protection", "verified")];
    lab.danelaw().await_delivery("delivered").assert(&fields);
}

/// Rows H13, H15.
#[test]
fn postfix_without_a_certificate() {
    postfix_delivers(main_cf!("relayhost = [{danelaw}]:10028"), "none");
}

/// Row H16.
#[test]
fn postfix_with_a_certificate() {
    let lines = main_cf!("relayhost = [{danelaw}]:10029", "smtp_tls_cert_file = {lab}/client.pem");
    postfix_delivers(lines, "verified");
}

/// Row H16.
#[test]
fn postfix_in_wrapper_mode() {
    let lines = main_cf!(
        "relayhost = [{danelaw}]:10465",
        "smtp_tls_wrappermode = yes",
        "smtp_tls_cert_file = {lab}/client.pem"
    );
    postfix_delivers(lines, "verified");
}

/// Row H16: the mail stays in the queue while the certificate is wrong, and bounces where there is none.
#[test]
fn postfix_that_danelaw_does_not_know() {
    let wrong = main_cf!("relayhost = [{danelaw}]:10029", "smtp_tls_cert_file = {lab}/stranger.pem");
    let lab = Lab::start(&Case { client: wrong, ..Case::default() });
    lab.mail().assert_deferred("451 4.7.1 your certificate does not let you", &["no CA of client_ca has issued it"]);
    let none = main_cf!("relayhost = [{danelaw}]:10029");
    let lab = Lab::start(&Case { client: none, ..Case::default() });
    lab.mail().assert_bounced("554 5.7.1 you may not send mail through this host without a certificate", &[]);
}

/// Row H17: a pair that is of no use changes nothing, and a good one is shown from then on.
#[test]
fn a_reload_takes_the_next_certificate() {
    let lab = Lab::start(&Case { client: main_cf!("relayhost = [{danelaw}]:10028"), ..Case::default() });
    let danelaw = lab.danelaw();
    // The key of one certificate in front of another one.
    let (good, other) = (lab.file(Danelaw::CERTIFICATE), Identity::public(&[Danelaw::NAME]).key_and_chain());
    let certificate = |pem: &str| pem[pem.find("-----BEGIN CERTIFICATE").expect("PEM")..].to_owned();
    let key = |pem: &str| pem.replace(&certificate(pem), "");
    let of_no_use = "the configuration was read again and is of no use; the old one stays";
    for (text, why) in [
        (key(&other) + &certificate(&good), "danelaw.pem does not belong to the first certificate in "),
        (certificate(&good), "danelaw.pem has no private key in PEM form: there is none in it"),
        (key(&good), "danelaw.pem is no list of certificates in PEM form: there is no certificate in it"),
    ] {
        lab.write(Danelaw::CERTIFICATE, &text);
        danelaw.reload(of_no_use);
        let said = danelaw.events(of_no_use).last().expect("just logged").field("why");
        assert!(said.contains(why) && said.contains(": listener 7: ") && said.contains("danelaw.toml:"), "{said}");
    }
    assert_eq!(lab.mail().status, "sent");
    // Postfix holds the next one to another name.
    lab.write(Danelaw::CERTIFICATE, &Identity::public(&["other.client.test"]).key_and_chain());
    danelaw.reload("the configuration was read again and is in force");
    let outcome = lab.mail();
    assert_eq!(outcome.status, "deferred", "{outcome:?}");
    assert!(outcome.text.contains("Server certificate not verified"), "{outcome:?}");
}

/// Row H15.
#[test]
fn postfix_that_speaks_no_tls() {
    let client = &["relayhost = [{danelaw}]:10028", "smtp_tls_security_level = none"];
    let lab = Lab::start(&Case { client, ..Case::default() });
    lab.mail().assert_bounced("530 5.7.0 must issue a STARTTLS command first", &[]);
}

/// Row B15: Postfix sends the mail of some senders by a listener with a level of its own.
#[test]
fn postfix_chooses_a_level_by_the_sender() {
    let without_dane = || Case::of([Exchange { tlsa: Tlsa::Absent, certificate: Certificate::SelfSigned, ..MX1 }]);
    let usual = Lab::start(&without_dane());
    assert_eq!(usual.mail().status, "sent");
    let client = &[
        "sender_dependent_default_transport_maps = inline:{ alice@client.test=smtp:[{danelaw}]:10030 }",
        "smtp_destination_recipient_limit = 1",
    ];
    let lab = Lab::start(&Case { client, ..without_dane() });
    lab.mail().assert_deferred("451 4.7.5", &[]);
    lab.danelaw().await_delivery("deferred").assert(&[("listener_level", "secure")]);
    let lab = Lab::start(&Case { client, ..Case::default() });
    assert_eq!(lab.mail().status, "sent");
    lab.danelaw().await_delivery("delivered").assert(&[("listener_level", "secure"), ("protection", "verified")]);
}

/// Rows Q6, A-115: Postfix chooses the listener for `TLS-Required: No` by the header. Other mail waits as ever.
#[test]
fn postfix_chooses_a_listener_by_the_field() {
    let client = &["header_checks = regexp:{{/^TLS-Required:[ ]*No[ ]*$$/ FILTER smtp:[{danelaw}]:10031}}"];
    let broken = Exchange { tlsa: Tlsa::Other, ..MX1 };
    let lab = Lab::start(&Case { client, ..Case::of([broken.clone()]) });
    lab.mail().assert_deferred("451 4.7.5", &[]);
    let with_field = [b"TLS-Required: No\r\n".as_slice(), &message()].concat();
    let outcome = lab.mail_of(&with_field);
    assert_eq!(outcome.status, "sent", "{outcome:?}");
    let fields = [("permit", "tls-required-no"), ("protection", "encrypted"), ("would", "tlsa-mismatch")];
    lab.danelaw().await_delivery("delivered").assert(&fields);
    // Postfix stores a message after its answer.
    let stored = eventually("the message", || lab.messages(&broken).pop());
    assert!(String::from_utf8_lossy(&stored).contains("TLS-Required: No\n"));
}

/// A client with a command line, in a root of its own.
struct Program {
    package: &'static str,
    /// Its setup, and its command for one mail with `$1` and `$2`, danelaw's address and port.
    command: &'static str,
    /// The arguments for a certificate.
    certificate: &'static str,
}

impl Program {
    /// Sends a mail. Returns whether the program reports success, and its words.
    fn send(&self, lab: &Lab, to: SocketAddr, arguments: &str) -> (bool, String) {
        let root = Root::of(self.package);
        root.write("/etc/lab-ca.pem", &lab.file("public-ca.pem"));
        for file in [Danelaw::CLIENT, Danelaw::STRANGER] {
            root.write(&format!("/etc/{file}"), &lab.file(file));
        }
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let output = output(&mut root.shell(self.command, &[&host, &port, arguments]));
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.success(), said)
    }

    /// Asserts what becomes of mail with no certificate, a wrong one and the right one.
    #[track_caller]
    fn is_known_by_its_certificate(&self) {
        let lab = Lab::start(&Case::default());
        let [by_address, by_certificate, _] = lab.danelaw_tls();
        let (_, said) = self.send(&lab, by_certificate, "");
        assert!(said.contains("you may not send mail through this host without a certificate"), "{said}");
        let (_, said) = self.send(&lab, by_certificate, &self.certificate.replace("client.pem", "stranger.pem"));
        assert!(said.contains("your certificate does not let you send mail"), "{said}");
        let sends = [(by_address, "", "none"), (by_certificate, self.certificate, "verified")];
        for (before, (to, arguments, certificate)) in sends.into_iter().enumerate() {
            let (is_sent, said) = self.send(&lab, to, arguments);
            assert!(is_sent, "{said}");
            // The client has its answer before the log has the line.
            let delivery =
                eventually("the log of the delivery", || lab.danelaw().events("delivery").into_iter().nth(before));
            delivery.assert(&[
                ("verdict", "delivered"),
                ("client_tls", "TLSv1.3"),
                ("client_certificate", certificate),
            ]);
        }
        eventually("both messages", || (lab.messages(&MX1).len() == 2).then_some(()));
    }
}

/// Row H16.
#[test]
fn swaks_over_starttls() {
    Program {
        package: "swaks",
        // It has no option for the name in the certificate, so it checks the chain alone.
        command: "exec swaks --server $1 --port $2 --from alice@client.test --to bob@example.test --tls --tls-verify \
                  --tls-ca-path /etc/lab-ca.pem --timeout 60s $3",
        certificate: "--tls-cert /etc/client.pem --tls-key /etc/client.pem",
    }
    .is_known_by_its_certificate();
}

/// Row H16.
#[test]
fn msmtp_over_starttls() {
    Program {
        package: "msmtp",
        command: "printf 'Subject: x\\n\\nbody\\n' | msmtp --host=$1 --port=$2 --tls=on --tls-trust-file=/etc/lab-ca.pem \
                  --tls-host-override=danelaw.client.test --from=alice@client.test --timeout=60 $3 -- bob@example.test",
        certificate: "--tls-cert-file=/etc/client.pem --tls-key-file=/etc/client.pem",
    }
    .is_known_by_its_certificate();
}

/// Row H16.
#[test]
fn exim_over_starttls() {
    Program {
        package: "exim4-daemon-light",
        command: r#"
mkdir -p /etc/exim4 /var/spool/exim4 /var/log/exim4
cat >/etc/exim4/exim4.conf <<END
primary_hostname = client.test
log_file_path = /tmp/log.%s
begin routers
danelaw:
  driver = manualroute
  transport = danelaw
  route_list = * $1 byname
  self = send
begin transports
danelaw:
  driver = smtp
  port = $2
  allow_localhost
  hosts_require_tls = *
  tls_verify_certificates = /etc/lab-ca.pem
  tls_verify_hosts = *
  tls_verify_cert_hostnames =
  hosts_try_dane =
$(printf '%b' "$3")
END
chmod 644 /etc/*.pem
chown -R Debian-exim:Debian-exim /var/spool/exim4 /var/log/exim4
printf 'Subject: x\n\nbody\n' | exim4 -odf -i -f alice@client.test bob@example.test
cat /tmp/log.main
exim4 -bp
! exim4 -bp | grep -q bob
"#,
        certificate: "  tls_certificate = /etc/client.pem\\n  tls_privatekey = /etc/client.pem",
    }
    .is_known_by_its_certificate();
}
