# What the project's images ask for as BASE_IMAGE, made of Debian's packages: Debian with its Python.
FROM scratch
ADD base.tar /
ENV LANG=C.UTF-8 PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin
CMD ["python3"]
