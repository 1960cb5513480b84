//! AWS Signature Version 4. Pure: the time and the secret are arguments.
