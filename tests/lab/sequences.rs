//! The sequences of octets that some mail server has taken for an end of data.

/// The lists of A-80 and A-81, and the sequences that smtpsmug and the scanner of SEC Consult send.
pub(crate) const SEQUENCES: [&[u8]; 20] = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\0.\0\r\n",
    b"\n\0.\n",
    b"\n.\0\n",
    b"\r\n. \r\n",
    b"\r\n.\t\r\n",
    b"\r\n. \n",
    b"\r\n.\n\r\n",
    b"\n\r.\r\n",
];
