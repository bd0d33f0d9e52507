"""What the kernel, libc and Python know about a process; starting threads and child processes."""
