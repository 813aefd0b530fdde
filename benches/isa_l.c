/* ISA-L at the four levels, for benches/compare.py: one line of JSON per measurement.
 *
 *   cc -O2 -o isa_l benches/isa_l.c -lisal && ./isa_l
 *
 * Stripes lie in memory as in benches/codec.rs, the matrix is ISA-L's own. Reconstruction gives the first min(k, n-k)
 * data blocks back, which is checked once before anything is timed. */
#include <isa-l.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLD_BYTES = 64 << 20, PAGE_BYTES = 4096, MOST = 32, SAMPLES = 81 };

struct walk { const char *name; int block_bytes, cold; };
static const struct walk WALKS[] = {
    {"hot-64KiB", 64 << 10, 0}, {"cold-64KiB", 64 << 10, 1}, {"cold-256KiB", 256 << 10, 1}, {"cold-1MiB", 1 << 20, 1},
};
static const int LEVELS[][2] = {{2, 3}, {3, 5}, {5, 9}, {7, 15}};

struct job { int inputs, outputs, first_input, first_output, block_bytes; uint8_t *tables; };

static const double SAMPLE_SECONDS = 0.0005;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void run(const struct job *job, uint8_t *stripe) {
    uint8_t *inputs[MOST], *outputs[MOST];
    for (int i = 0; i < job->inputs; i++) inputs[i] = stripe + (size_t)(job->first_input + i) * job->block_bytes;
    for (int i = 0; i < job->outputs; i++) outputs[i] = stripe + (size_t)(job->first_output + i) * job->block_bytes;
    ec_encode_data(job->block_bytes, job->inputs, job->outputs, job->tables, inputs, outputs);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Samples as in benches/codec.rs: as many stripes as take half a millisecond. */
static double median_seconds(const struct job *job, uint8_t *memory, size_t stripe_bytes, int stripes) {
    double samples[SAMPLES], spent = 0;
    int next = 0;
    long times = 1;
    for (int i = 0; i < SAMPLES;) {
        double begun = now();
        for (long j = 0; j < times; j++) run(job, memory + stripe_bytes * (next = (next + 1) % stripes));
        spent = now() - begun;
        if (i == 0 && spent < SAMPLE_SECONDS) times *= 2;
        else samples[i++] = spent / times;
    }
    qsort(samples, SAMPLES, sizeof *samples, by_size);
    return samples[SAMPLES / 2];
}

static void measure(const struct walk *walk, int k, int n) {
    static uint8_t matrix[MOST * MOST], left[MOST * MOST], inverse[MOST * MOST];
    static uint8_t encode[32 * MOST * MOST], decode[32 * MOST * MOST];
    int lost = k < n - k ? k : n - k, block = walk->block_bytes;
    size_t stripe_bytes = (size_t)n * block;
    int stripes = walk->cold ? (COLD_BYTES + k * block - 1) / (k * block) : 1;
    uint8_t *memory = aligned_alloc(PAGE_BYTES, stripes * stripe_bytes), *kept = malloc((size_t)lost * block);
    gf_gen_cauchy1_matrix(matrix, n, k);
    memcpy(left, matrix + lost * k, (size_t)k * k);
    if (!memory || !kept || gf_invert_matrix(left, inverse, k)) exit(1);
    ec_init_tables(k, n - k, matrix + k * k, encode);
    ec_init_tables(k, lost, inverse, decode);
    for (size_t i = 0; i < stripes * stripe_bytes; i++) memory[i] = (uint8_t)(i * 2654435761u >> 13);
    struct job jobs[] = {{k, n - k, 0, k, block, encode}, {k, lost, lost, 0, block, decode}};
    for (int i = 0; i < stripes; i++) run(&jobs[0], memory + i * stripe_bytes);
    memcpy(kept, memory, (size_t)lost * block);
    memset(memory, 0, (size_t)lost * block);
    run(&jobs[1], memory);
    if (memcmp(kept, memory, (size_t)lost * block)) exit(1);
    for (int i = 0; i < 2; i++)
        printf("{\"id\":\"%s/%s/%d/%d\",\"seconds\":%.9f,\"bytes\":%d}\n", walk->name, i ? "reconstruct" : "encode", k, n,
               median_seconds(&jobs[i], memory, stripe_bytes, stripes), k * block);
    fflush(stdout);
    free(memory);
    free(kept);
}

int main(void) {
    for (unsigned w = 0; w < sizeof WALKS / sizeof *WALKS; w++)
        for (unsigned l = 0; l < sizeof LEVELS / sizeof *LEVELS; l++) measure(&WALKS[w], LEVELS[l][0], LEVELS[l][1]);
    return 0;
}
