ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY tests/contract/stand_in_service.py /opt/headrace/
ENTRYPOINT ["python", "/opt/headrace/stand_in_service.py"]
