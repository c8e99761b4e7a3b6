//! The mail servers and programs that send through danelaw, each with the settings of its file in `config/clients`, and
//! each with the same mails and the same troubles ([`crate::client_runs`]). One test is one client with all its mails.

use crate::client_runs::{Client, Kill, Package, Recipients, Trouble, run_with_queue, run_without_queue};
use crate::postfix::MASTER_CF;

/// Words of the reply to a client when the outcomes of fan-out differ.
const DIFFER: &[&str] = &["send the message again"];

/// A script in place of a queue: it calls msmtp again until msmtp reports that the mail was taken or rejected
/// permanently, by its exit status and the server's last reply.
const REPEATER: &str = r#"
cat >/usr/local/bin/repeat <<'END'
#!/bin/sh
# A mail is a directory, and only one process at a time tries it.
try() {
  exec 9<"$1" && flock -n 9 && [ -e "$1/mail" ] || return
  # shellcheck disable=SC2046
  msmtp --from=alice@example.test -- $(cat "$1/to") <"$1/mail" >"$1/said" 2>&1
  status=$?
  echo "$1 $status $(cat "$1/said")" >>/tmp/log
  if [ $status != 0 ] && ! grep -q "server message: 5" "$1/said"; then return; fi
  [ $status = 0 ] || { echo Subject: failed; echo; cat "$1/said" "$1/to" "$1/mail"; } |
    msmtp --from=mailer-daemon@example.test alice@example.test || return
  rm -r "$1"
}
for mail in /tmp/queue/*/; do try "$mail" & done
wait
END
chmod +x /usr/local/bin/repeat
mkdir /tmp/queue
"#;

#[test]
fn msmtp() {
    run_with_queue(Client {
        package: Package::Unpacked("msmtp"),
        settings: ("msmtprc", "/etc/msmtprc"),
        setup: REPEATER.to_owned(),
        submit: "mail=$(mktemp -d /tmp/mail.XXXXXX); cat >$mail/mail; printf '%s\\n' \"$@\" >$mail/to; \
            mv $mail /tmp/queue; repeat >/dev/null 2>&1 &",
        queue: "cat /tmp/queue/*/to",
        again: "repeat",
        recipients: Recipients::Together,
        spared: &[],
        kill: Kill::Survives(""),
        smtputf8: false,
        longest_line: 998,
        logs: DIFFER,
    });
}

#[test]
fn msmtp_over_lmtp() {
    run_without_queue(Client {
        package: Package::Unpacked("msmtp"),
        settings: ("msmtprc", "/etc/msmtprc"),
        setup: String::new(),
        submit: "exec msmtp --account=lmtp --from=alice@example.test -- \"$@\"",
        queue: "",
        again: "",
        recipients: Recipients::Together,
        spared: &[],
        kill: Kill::NotTried,
        smtputf8: false,
        longest_line: 998,
        logs: &[],
    });
}

#[test]
fn swaks() {
    run_without_queue(Client {
        package: Package::Unpacked("swaks"),
        settings: ("swaksrc", "/root/.swaksrc"),
        setup: String::new(),
        submit: "IFS=,; export HOME=/root; head -c -1 >/tmp/mail; \
            exec swaks --from alice@example.test --to \"$*\" --data @/tmp/mail --suppress-data",
        queue: "",
        again: "",
        recipients: Recipients::Alone,
        spared: &[],
        kill: Kill::NotTried,
        smtputf8: false,
        longest_line: 998,
        logs: &[],
    });
}

#[test]
fn nullmailer() {
    run_with_queue(Client {
        package: Package::Unpacked("nullmailer"),
        settings: ("nullmailer-remotes", "/etc/nullmailer/remotes"),
        setup: "cd /var/spool/nullmailer && mkfifo -m 622 trigger && mkdir -p queue tmp failed && \
            echo client.test >/etc/nullmailer/me && \
            cd /etc/nullmailer && echo 1 | tee pausetime >maxpause && (nullmailer-send >/tmp/log 2>&1 &)"
            .to_owned(),
        submit: "exec sendmail -f alice@example.test \"$@\"",
        queue: "cd /var/spool/nullmailer; for mail in queue/* tmp/*; do sed '/^$/q' $mail; done",
        again: "",
        recipients: Recipients::Together,
        spared: &[],
        kill: Kill::Survives(""),
        smtputf8: false,
        longest_line: 998,
        logs: DIFFER,
    });
}

const EXIM: &str = "\
primary_hostname = client.test
domainlist local_domains = client.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = 2500
tls_advertise_hosts =
smtp_accept_max = 0
queue_run_max = 5
message_size_limit = 50M
log_file_path = /tmp/log.%s
begin retry
* * F,4d,1s
";

/// Exim with the lines of its configuration above and below those of the file in `config/clients`.
fn exim(edit: &str, logs: &'static [&'static str]) {
    let setup = format!(
        "cd /etc/exim4; {{ printf '%s\\n' '{EXIM}'; {edit} danelaw; }} >exim4.conf; mkdir -p /var/spool/exim4 /var/log/exim4; \
         chown -R Debian-exim:Debian-exim /var/spool/exim4 /var/log/exim4; exim4 -bd -q1s >/tmp/log 2>&1 || {{ cat /tmp/log; false; }}"
    );
    run_with_queue(Client {
        package: Package::Unpacked("exim4-daemon-light"),
        settings: ("exim.conf", "/etc/exim4/danelaw"),
        setup,
        submit: "exec exim4 -i -f alice@example.test \"$@\"",
        queue: "exim4 -bp | grep -v '^ *D '",
        again: "exim4 -qff",
        recipients: Recipients::Alone,
        spared: &[],
        kill: Kill::NotTried,
        smtputf8: true,
        longest_line: 998,
        logs,
    });
}

#[test]
fn exim_with_prdr() {
    // M12: Exim sends chunks to a server that offers CHUNKING (K in its log).
    exim("cat", &[" PRDR K C=\""]);
}

#[test]
fn exim_without_prdr() {
    exim("grep -v hosts_try_prdr", &[" K C=\""]);
}

#[test]
fn opensmtpd() {
    run_with_queue(Client {
        package: Package::Unpacked("opensmtpd"),
        settings: ("smtpd.conf", "/etc/smtpd.conf"),
        // The number of attempts decides when it tells senders of a delay.
        setup:
            "echo client.test >/etc/mailname; rm -f /etc/aliases; echo 'bounce warn-interval 7d' >>/etc/smtpd.conf; \
            chgrp opensmtpq /usr/sbin/smtpctl && chmod 2555 /usr/sbin/smtpctl; smtpd -F >/tmp/log 2>&1 & \
            until smtpctl show status >/dev/null 2>&1; do sleep 0.05; done"
                .to_owned(),
        submit: "exec sendmail -i -f alice@example.test \"$@\"",
        queue: "smtpctl show queue",
        again: "smtpctl schedule all",
        recipients: Recipients::Alone,
        // It may name the same domain first each time. While that one is deferred after the message, the other waits.
        spared: &[Trouble::Later],
        kill: Kill::NotTried,
        smtputf8: false,
        longest_line: 998,
        logs: &[],
    });
}

/// The lines of a machine's sendmail.mc around those of the file in `config/clients`. The load that the tests make does
/// not stop it. Port 25 belongs to the lab's exchanges: a sendmail that cannot bind its port ends after some tries, and
/// then no process runs its queue.
const SENDMAIL: &str = "\
divert(0)dnl
define(`_CF_DIR_', `/usr/share/sendmail/cf/')dnl
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
define(`confDOMAIN_NAME', `client.test')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`ALIAS_FILE', `')dnl
FEATURE(`nocanonify')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port=2500')dnl
include(`danelaw.mc')dnl
MAILER(`smtp')dnl
";

#[test]
fn sendmail() {
    // It looks up its own name and its peers' addresses, which no name server of the lab knows.
    let setup = "cd /etc/mail; echo hosts files >service.switch; echo \"127.0.0.1 client.test $(hostname)\" >/etc/hosts; \
        sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf; m4 all.mc >sendmail.cf && /usr/libexec/sendmail/sendmail -bd -q1s >/tmp/log 2>&1";
    run_with_queue(Client {
        package: Package::Unpacked("sendmail-bin"),
        settings: ("sendmail.mc", "/etc/mail/danelaw.mc"),
        setup: format!("cat >/etc/mail/all.mc <<'END'\n{SENDMAIL}END\n{setup}"),
        submit: "exec /usr/libexec/sendmail/sendmail -Am -i -f alice@example.test -- \"$@\"",
        queue: "/usr/libexec/sendmail/sendmail -Am -bp",
        again: "/usr/libexec/sendmail/sendmail -Am -q",
        recipients: Recipients::Alone,
        spared: &[],
        kill: Kill::NotTried,
        smtputf8: false,
        longest_line: 980,
        logs: &[],
    });
}

/// The setup that the installation of Courier's package would have made.
const COURIER: &str = "\
cd /etc/courier
echo client.test | tee me locals defaultdomain >/etc/mailname
echo postmaster@client.test >dsnfrom
echo 50000000 >sizelimit
mkdir -p /run/courier
chown -R courier:courier /var/lib/courier /run/courier /usr/lib/courier/courier/submitmkdir /usr/bin/mailq
chmod 4755 /usr/lib/courier/courier/submitmkdir
chgrp courier /usr/sbin/sendmail
chmod 2755 /usr/sbin/sendmail /usr/bin/mailq
makealiases
courier start >/tmp/log 2>&1
";

#[test]
fn courier() {
    run_with_queue(Client {
        package: Package::Unpacked("courier-mta"),
        settings: ("esmtproutes", "/etc/courier/esmtproutes"),
        setup: COURIER.to_owned(),
        submit: "exec sendmail -f alice@example.test \"$@\"",
        queue: "mailq -batch | sed 's/;done;[^;]*//g'",
        again: "courier flush",
        recipients: Recipients::Alone,
        spared: &[],
        kill: Kill::NotTried,
        smtputf8: true,
        longest_line: 998,
        logs: &[],
    });
}

#[test]
fn dma() {
    run_with_queue(Client {
        package: Package::Unpacked("dma"),
        settings: ("dma.conf", "/etc/dma/dma.conf"),
        setup: "echo client.test >/etc/mailname".to_owned(),
        submit: "exec dma -i -f alice@example.test \"$@\"",
        queue: "dma -bp",
        again: "dma -q",
        recipients: Recipients::Alone,
        // It reads from an ended connection until its five minutes are over. No other dma runs in this root.
        spared: &[],
        kill: Kill::Survives("for dma in $(pidof dma); do kill $dma; done"),
        smtputf8: false,
        longest_line: 990,
        logs: &[],
    });
}

/// The lines of a machine's main.cf above those of the file in `config/clients`.
const POSTFIX: &str = "\
compatibility_level = 3.6
maillog_file = /tmp/log
maillog_file_prefixes = /tmp
myhostname = client.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
message_size_limit = 50000000
";

/// A Postfix that takes mail by its sendmail command alone.
fn postfix(file: &'static str) {
    let master: String = MASTER_CF.lines().skip(1).map(|line| format!("{line}\n")).collect();
    run_with_queue(Client {
        package: Package::Installed,
        settings: (file, "/etc/postfix/danelaw.cf"),
        setup: format!(
            "cd /etc/postfix; {{ echo '{POSTFIX}'; cat danelaw.cf; }} >main.cf; echo '{master}pickup unix n - n 1 1 pickup' >master.cf; \
             postfix start >/tmp/log.start 2>&1 || {{ cat /tmp/log*; false; }}"
        ),
        submit: "exec sendmail -i -f alice@example.test \"$@\"",
        queue: "postqueue -p",
        again: "postqueue -f",
        recipients: Recipients::Alone,
        spared: &[],
        kill: Kill::Survives(""),
        smtputf8: true,
        longest_line: 998,
        logs: &[],
    });
}

#[test]
fn postfix_over_lmtp() {
    postfix("postfix-lmtp.cf");
}

#[test]
fn postfix_over_smtp() {
    postfix("postfix-smtp.cf");
}
