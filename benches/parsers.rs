//! The speed of the parsers that read every octet and every command.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use danelaw::smtp::command::Command;
use danelaw::smtp::data::{BareNewlines, DataScanner};
use danelaw::smtp::reply::ReplyDecoder;
use danelaw::smtp::stuffing::DotStuffer;

/// The most octets of one read of a socket.
const READ: usize = 16 * 1024;

/// A mail of so many octets or a few more: a header, then lines of 76 characters.
fn typical_mail(octets: usize) -> Vec<u8> {
    let mut mail = Vec::new();
    for received in 0..4 {
        mail.extend_from_slice(
            format!("Received: from a{received}.example by b.example with ESMTP; date\r\n").as_bytes(),
        );
    }
    mail.extend_from_slice(b"From: <a@a.example>\r\nTo: <b@b.example>\r\nSubject: a typical mail\r\n\r\n");
    while mail.len() < octets {
        mail.extend_from_slice("x".repeat(76).as_bytes());
        mail.extend_from_slice(b"\r\n");
    }
    mail.extend_from_slice(b".\r\n");
    mail
}

/// A mail of 1 MB that has no long run of text to copy: short lines, many of them dots.
fn hard_mail() -> Vec<u8> {
    let mut mail = b"\r\n..\r\nab\r\n...\r\n\r\nc\nd\re\r\n".repeat((1 << 20) / 26);
    mail.extend_from_slice(b".\r\n");
    mail
}

fn data(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("data");
    for (name, mail) in [
        ("typical, 4 KB", typical_mail(4096)),
        ("typical, 1 MB", typical_mail(1 << 20)),
        ("dots and short lines, 1 MB", hard_mail()),
    ] {
        group.throughput(Throughput::Bytes(mail.len() as u64));
        group.bench_function(name, |bencher| {
            let (mut input, mut output) = (BytesMut::with_capacity(READ), BytesMut::with_capacity(2 * READ));
            bencher.iter(|| {
                let (mut scanner, mut stuffer) = (DataScanner::new(BareNewlines::Normalize), DotStuffer::default());
                for read in mail.chunks(READ) {
                    input.extend_from_slice(read);
                    black_box(scanner.scan(&mut input, &mut output));
                    black_box(stuffer.stuff(&output));
                    output.clear();
                }
            });
        });
    }
    group.finish();
}

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command");
    for (name, line) in [
        ("MAIL", "MAIL FROM:<bounce+12345-user=example.com@sender.example> SIZE=123456 BODY=8BITMIME"),
        ("RCPT", "RCPT TO:<some.body@recipient.example>"),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| Command::parse(black_box(line.as_bytes()))));
    }
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    let ehlo = "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n\
                250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n";
    for (name, reply) in [("one line", "250 2.1.5 <b@b.example> recipient ok\r\n"), ("EHLO", ehlo)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || BytesMut::from(reply),
                |buffer| ReplyDecoder::new().decode(buffer),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, data, commands, replies);
criterion_main!(benches);
