<?php
// A mail by the library that Nextcloud sends with, with the settings that Nextcloud makes of its own.
//
//   php nextcloud.php RECIPIENT PROGRAM SETTINGS      settings as a JSON object; prints "sent", or the error that Nextcloud hears
require_once 'Symfony/Component/Mailer/autoload.php';

use Symfony\Component\Mailer\Exception\TransportExceptionInterface;
use Symfony\Component\Mailer\Mailer;
use Symfony\Component\Mailer\Transport\Smtp\EsmtpTransport;
use Symfony\Component\Mime\Email;

[, $recipient, $program, $settings] = $argv;
$settings = json_decode($settings, true, flags: JSON_THROW_ON_ERROR);
// Without "ssl" the library decides, and speaks STARTTLS with each server that offers it.
$tls = $settings['mail_smtpsecure'] === 'ssl' ? true : null;
$transport = new EsmtpTransport($settings['mail_smtphost'], $settings['mail_smtpport'], $tls);
$transport->getStream()->setTimeout(10);
$note = (new Email())->from('alice@client.test')->to($recipient)->subject('A note')->text("The text.\n");
try {
    (new Mailer($transport))->send($note);
    echo "$program: sent\n";
} catch (TransportExceptionInterface $error) {
    echo "$program: ", get_class($error), ': ', strtr($error->getMessage(), "\n", ' '), "\n";
}
