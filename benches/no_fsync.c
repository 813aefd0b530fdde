/* Makes fsync and fdatasync of a program do nothing: cc -O2 -shared -fPIC -o no_fsync.so benches/no_fsync.c, then
 * LD_PRELOAD=./no_fsync.so. For comparing with commands that sync nothing, and for nothing else. */
int fsync(int fd) { (void)fd; return 0; }
int fdatasync(int fd) { (void)fd; return 0; }
