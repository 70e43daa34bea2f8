/* The baseline: run the commands on stdin, one a line, words parted by blanks, at most SLOTS at a time, and nothing
 * else. No store, no capture, no measurement. Prints the seconds it took. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int slots = argc > 1 ? atoi(argv[1]) : 1, busy = 0, bad = 0, status;
    char *line = NULL, *words[64];
    size_t size = 0;
    double started = now();
    posix_spawn_file_actions_t actions;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    while (getline(&line, &size, stdin) > 0) {
        int n = 0;
        for (char *word = strtok(line, " \n"); word && n < 63; word = strtok(NULL, " \n"))
            words[n++] = word;
        words[n] = NULL;
        if (n == 0)
            continue;
        if (busy >= slots && wait(&status) > 0) {
            busy--;
            bad += status != 0;
        }
        pid_t pid;
        int error = posix_spawnp(&pid, words[0], &actions, NULL, words, environ);
        if (error) {
            fprintf(stderr, "%s: %s\n", words[0], strerror(error));
            return 1;
        }
        busy++;
    }
    while (busy > 0 && wait(&status) > 0) {
        busy--;
        bad += status != 0;
    }
    printf("%.6f\n", now() - started);
    return bad != 0;
}
