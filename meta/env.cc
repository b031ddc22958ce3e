/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only C++ of nvfs: derives RocksDB's FileSystem over metafs. Only public headers, and of
 * those what is the same from RocksDB 7.8 to 9.11.
 *
 * Paths are "/ID" for the one directory of a pool and "/ID/NAME" for its files. RocksDB's own log
 * goes to io/log at debug level, so LOG is never a file. A directory's fsync is a switch of the
 * metafs table, if the durable one lacks a name.
 */
#include "config.h"

#include "meta/env.h"

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/utilities/object_registry.h>

extern "C" {
#include "io/log.h"
#include "meta/metafs_file.h"
}

namespace {

using rocksdb::Env;
using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSRandomAccessFile;
using rocksdb::FSSequentialFile;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

/* ---- Pools by number ---- */

std::mutex registry_lock;
std::map<unsigned, metafs *> registry; /* registry_lock */
unsigned registry_next = 1;            /* registry_lock */

metafs *pool_find(unsigned id)
{
	std::lock_guard<std::mutex> held(registry_lock);
	auto it = registry.find(id);

	return it == registry.end() ? nullptr : it->second;
}

/* Splits "/ID/NAME"; name is empty for the directory itself. Null: no such pool. */
metafs *resolve(const std::string &path, std::string *name)
{
	unsigned id = 0;
	int used = 0;

	if (sscanf(path.c_str(), "/%u%n", &id, &used) != 1)
		return nullptr;
	size_t at = path.find_first_not_of('/', static_cast<size_t>(used));
	*name = at == std::string::npos ? std::string() : path.substr(at);
	return pool_find(id);
}

IOStatus status_of(int err, const std::string &path)
{
	switch (err) {
	case 0:
		return IOStatus::OK();
	case -ENOSPC:
		return IOStatus::NoSpace(path, "metafs is full");
	case -ENOENT:
		return IOStatus::PathNotFound(path, "no such file");
	default:
		return IOStatus::IOError(path, strerror(-err));
	}
}

/* ---- Files ---- */

class Handle {
public:
	explicit Handle(metafs_file *file, const std::string &path) : file_(file), path_(path) {}
	~Handle() { close(); }
	Handle(const Handle &) = delete;
	Handle &operator=(const Handle &) = delete;

	void close()
	{
		if (file_)
			metafs_file_close(file_);
		file_ = nullptr;
	}
	metafs_file *get() const { return file_; }
	const std::string &path() const { return path_; }

	IOStatus read(uint64_t offset, size_t n, Slice *result, char *scratch) const
	{
		ssize_t got = metafs_read(file_, scratch, n, offset);

		*result = Slice(scratch, got < 0 ? 0 : static_cast<size_t>(got));
		return status_of(got < 0 ? static_cast<int>(got) : 0, path_);
	}

private:
	metafs_file *file_;
	std::string path_;
};

class SequentialFile : public FSSequentialFile {
public:
	SequentialFile(metafs_file *file, const std::string &path) : handle_(file, path) {}

	IOStatus Read(size_t n, const IOOptions &, Slice *result, char *scratch,
		      IODebugContext *) override
	{
		IOStatus s = handle_.read(offset_, n, result, scratch);

		offset_ += result->size();
		return s;
	}

	IOStatus Skip(uint64_t n) override
	{
		uint64_t size = metafs_file_size(handle_.get());

		offset_ = n > size - offset_ ? size : offset_ + n;
		return IOStatus::OK();
	}

	IOStatus InvalidateCache(size_t, size_t) override { return IOStatus::OK(); }

private:
	Handle handle_;
	uint64_t offset_ = 0;
};

class RandomAccessFile : public FSRandomAccessFile {
public:
	RandomAccessFile(metafs_file *file, const std::string &path) : handle_(file, path) {}

	IOStatus Read(uint64_t offset, size_t n, const IOOptions &, Slice *result, char *scratch,
		      IODebugContext *) const override
	{
		return handle_.read(offset, n, result, scratch);
	}

	/* File ids are never used again, so this is unique within the process's caches too. */
	size_t GetUniqueId(char *id, size_t max_size) const override
	{
		uint64_t number = metafs_file_id(handle_.get());

		if (max_size < sizeof(number))
			return 0;
		memcpy(id, &number, sizeof(number));
		return sizeof(number);
	}

	IOStatus InvalidateCache(size_t, size_t) override { return IOStatus::OK(); }

private:
	Handle handle_;
};

class WritableFile : public FSWritableFile {
public:
	WritableFile(metafs_file *file, const std::string &path) : handle_(file, path) {}

	using FSWritableFile::Append;
	IOStatus Append(const Slice &data, const IOOptions &, IODebugContext *) override
	{
		return status_of(metafs_append(handle_.get(), data.data(), data.size()),
				 handle_.path());
	}

	IOStatus Close(const IOOptions &, IODebugContext *) override
	{
		handle_.close();
		return IOStatus::OK();
	}

	/* Bytes are with metafs as soon as Append returns. */
	IOStatus Flush(const IOOptions &, IODebugContext *) override { return IOStatus::OK(); }

	IOStatus Sync(const IOOptions &, IODebugContext *) override
	{
		return status_of(metafs_file_sync(handle_.get()), handle_.path());
	}

	bool IsSyncThreadSafe() const override { return true; }

	uint64_t GetFileSize(const IOOptions &, IODebugContext *) override
	{
		return metafs_file_size(handle_.get());
	}

	/* metafs preallocates by itself; RocksDB knows how large a table will be. */
	void SetPreallocationBlockSize(size_t size) override
	{
		metafs_file_expect(handle_.get(), size);
	}

	void PrepareWrite(size_t, size_t, const IOOptions &, IODebugContext *) override {}

	IOStatus InvalidateCache(size_t, size_t) override { return IOStatus::OK(); }

private:
	Handle handle_;
};

class Directory : public FSDirectory {
public:
	explicit Directory(metafs *mf) : mf_(mf) {}

	IOStatus Fsync(const IOOptions &, IODebugContext *) override
	{
		return status_of(metafs_sync_names(mf_), "directory");
	}

private:
	metafs *mf_;
};

class Lock : public rocksdb::FileLock {
public:
	explicit Lock(const std::string &path) : path_(path) {}
	const std::string &path() const { return path_; }

private:
	std::string path_;
};

/* RocksDB's own log. */
class DebugLogger : public rocksdb::Logger {
public:
	using rocksdb::Logger::Logv;
	void Logv(const char *format, va_list ap) override
	{
		char line[1024];

		if (!log_enabled(LOG_LEVEL_DEBUG))
			return;
		vsnprintf(line, sizeof(line), format, ap);
		line[strcspn(line, "\n")] = 0;
		log_debug("rocksdb: %s", line);
	}

	/* Below debug level nothing is even formatted. */
	void Logv(const rocksdb::InfoLogLevel level, const char *format, va_list ap) override
	{
		if (log_enabled(LOG_LEVEL_DEBUG))
			rocksdb::Logger::Logv(level, format, ap);
	}
};

/* ---- The file system ---- */

class MetaFileSystem : public rocksdb::FileSystem {
public:
	static const char *kClassName() { return "nvfs"; }
	const char *Name() const override { return kClassName(); }

	IOStatus NewSequentialFile(const std::string &path, const FileOptions &,
				   std::unique_ptr<FSSequentialFile> *out, IODebugContext *) override
	{
		return open_file<SequentialFile>(path, metafs_file_open, out);
	}

	IOStatus NewRandomAccessFile(const std::string &path, const FileOptions &,
				     std::unique_ptr<FSRandomAccessFile> *out,
				     IODebugContext *) override
	{
		return open_file<RandomAccessFile>(path, metafs_file_open, out);
	}

	IOStatus NewWritableFile(const std::string &path, const FileOptions &,
				 std::unique_ptr<FSWritableFile> *out, IODebugContext *) override
	{
		return open_file<WritableFile>(path, metafs_create, out);
	}

	IOStatus NewDirectory(const std::string &path, const IOOptions &,
			      std::unique_ptr<FSDirectory> *out, IODebugContext *) override
	{
		std::string name;
		metafs *mf = resolve(path, &name);

		if (!mf || !name.empty())
			return status_of(-ENOENT, path);
		out->reset(new Directory(mf));
		return IOStatus::OK();
	}

	IOStatus FileExists(const std::string &path, const IOOptions &, IODebugContext *) override
	{
		struct metafs_stat st = {};
		std::string name;
		metafs *mf = resolve(path, &name);

		if (mf && (name.empty() || !::metafs_stat(mf, name.c_str(), &st)))
			return IOStatus::OK();
		return IOStatus::NotFound(path);
	}

	IOStatus GetChildren(const std::string &path, const IOOptions &,
			     std::vector<std::string> *out, IODebugContext *) override
	{
		std::string name;
		metafs *mf = resolve(path, &name);

		out->clear();
		if (!mf || !name.empty())
			return status_of(-ENOENT, path);
		metafs_list(mf, add_child, out);
		return IOStatus::OK();
	}

	IOStatus DeleteFile(const std::string &path, const IOOptions &, IODebugContext *) override
	{
		std::string name;
		metafs *mf = resolve(path, &name);

		return status_of(mf ? metafs_unlink(mf, name.c_str()) : -ENOENT, path);
	}

	/* There is one directory, and it is there. */
	IOStatus CreateDir(const std::string &path, const IOOptions &, IODebugContext *) override
	{
		return IOStatus::IOError(path, "metafs has no directories");
	}

	IOStatus CreateDirIfMissing(const std::string &path, const IOOptions &,
				    IODebugContext *) override
	{
		std::string name;

		if (resolve(path, &name) && name.empty())
			return IOStatus::OK();
		return IOStatus::IOError(path, "metafs has no directories");
	}

	IOStatus DeleteDir(const std::string &path, const IOOptions &, IODebugContext *) override
	{
		return IOStatus::IOError(path, "metafs has no directories");
	}

	IOStatus IsDirectory(const std::string &path, const IOOptions &, bool *is_dir,
			     IODebugContext *) override
	{
		std::string name;

		*is_dir = resolve(path, &name) && name.empty();
		return IOStatus::OK();
	}

	IOStatus GetFileSize(const std::string &path, const IOOptions &, uint64_t *size,
			     IODebugContext *) override
	{
		struct metafs_stat st = {};
		IOStatus s = stat_path(path, &st);

		*size = st.size_bytes;
		return s;
	}

	IOStatus GetFileModificationTime(const std::string &path, const IOOptions &, uint64_t *mtime,
					 IODebugContext *) override
	{
		struct metafs_stat st = {};
		IOStatus s = stat_path(path, &st);

		*mtime = static_cast<uint64_t>(st.mtime_ns / 1000000000);
		return s;
	}

	IOStatus RenameFile(const std::string &from, const std::string &to, const IOOptions &,
			    IODebugContext *) override
	{
		std::string old_name, new_name;
		metafs *mf = resolve(from, &old_name), *target = resolve(to, &new_name);

		if (!mf || mf != target)
			return status_of(-ENOENT, from);
		return status_of(metafs_rename(mf, old_name.c_str(), new_name.c_str()), from);
	}

	/* The pool is locked by its devices; this keeps two databases of one process apart. */
	IOStatus LockFile(const std::string &path, const IOOptions &, rocksdb::FileLock **lock,
			  IODebugContext *) override
	{
		std::lock_guard<std::mutex> held(lock_);

		if (!locked_.insert(path).second)
			return IOStatus::IOError(path, "the database is open");
		*lock = new Lock(path);
		return IOStatus::OK();
	}

	IOStatus UnlockFile(rocksdb::FileLock *lock, const IOOptions &, IODebugContext *) override
	{
		std::lock_guard<std::mutex> held(lock_);

		locked_.erase(static_cast<Lock *>(lock)->path());
		delete lock;
		return IOStatus::OK();
	}

	IOStatus GetFreeSpace(const std::string &path, const IOOptions &, uint64_t *free_bytes,
			      IODebugContext *) override
	{
		std::string name;
		metafs *mf = resolve(path, &name);

		if (!mf)
			return status_of(-ENOENT, path);
		*free_bytes = metafs_free_bytes(mf);
		return IOStatus::OK();
	}

	IOStatus NewLogger(const std::string &, const IOOptions &,
			   std::shared_ptr<rocksdb::Logger> *out, IODebugContext *) override
	{
		*out = std::make_shared<DebugLogger>();
		return IOStatus::OK();
	}

	IOStatus GetTestDirectory(const IOOptions &, std::string *, IODebugContext *) override
	{
		return IOStatus::NotSupported("no directory for tests");
	}

	IOStatus GetAbsolutePath(const std::string &path, const IOOptions &, std::string *out,
				 IODebugContext *) override
	{
		*out = path;
		return IOStatus::OK();
	}

private:
	template <typename File, typename Out>
	static IOStatus open_file(const std::string &path,
				  int (*open)(metafs *, const char *, metafs_file **), Out *out)
	{
		std::string name;
		metafs *mf = resolve(path, &name);
		metafs_file *file = nullptr;
		int err = mf ? open(mf, name.c_str(), &file) : -ENOENT;

		if (!err)
			out->reset(new File(file, path));
		return status_of(err, path);
	}

	static void add_child(void *out, const char *name)
	{
		static_cast<std::vector<std::string> *>(out)->push_back(name);
	}

	static IOStatus stat_path(const std::string &path, struct metafs_stat *st)
	{
		std::string name;
		metafs *mf = resolve(path, &name);

		return status_of(mf ? ::metafs_stat(mf, name.c_str(), st) : -ENOENT, path);
	}

	std::mutex lock_;
	std::set<std::string> locked_; /* lock_ */
};

/* Static and unguarded: RocksDB refuses a guarded one in an options string. */
Env *the_env()
{
	static Env *env = rocksdb::NewCompositeEnv(std::make_shared<MetaFileSystem>()).release();

	return env;
}

void register_once()
{
	static bool done = [] {
		rocksdb::ObjectLibrary::Default()->AddFactory<Env>(
			NVFS_ENV_URI,
			[](const std::string &, std::unique_ptr<Env> *, std::string *) {
				return the_env();
			});
		return true;
	}();

	(void)done;
}

} // namespace

extern "C" int env_attach(struct metafs *mf, char *path)
{
	try {
		register_once();
		std::lock_guard<std::mutex> held(registry_lock);

		registry[registry_next] = mf;
		snprintf(path, NVFS_ENV_PATH_MAX, "/%u", registry_next++);
	} catch (const std::bad_alloc &) {
		return -ENOMEM;
	}
	return 0;
}

extern "C" void env_detach(const char *path)
{
	unsigned id = 0;

	if (sscanf(path, "/%u", &id) != 1)
		return;
	std::lock_guard<std::mutex> held(registry_lock);

	registry.erase(id);
}

extern "C" int env_verify_table(const char *path, const char *name)
{
	try {
		rocksdb::Options options;
		rocksdb::ReadOptions read;

		options.env = the_env();
		rocksdb::SstFileReader reader(options);
		rocksdb::Status status = reader.Open(std::string(path) + name);

		if (status.ok())
			status = reader.VerifyChecksum(read);
		if (status.ok())
			return 0;
		if (status.IsNotFound() || status.IsPathNotFound())
			return -ENOENT;
		return status.IsCorruption() ? -EBADMSG : -EIO;
	} catch (const std::bad_alloc &) {
		return -ENOMEM;
	}
}
