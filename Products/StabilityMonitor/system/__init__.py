"""What the kernel, libc and Python tell of a process, and how processes and threads are started."""
